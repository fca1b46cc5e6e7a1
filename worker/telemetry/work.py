"""What a worker did between two looks at its `/metrics`."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import urllib3
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_SECONDS = 3.0
_STAGES = ("fetch", "decode", "resample", "normalize", "infer")


class NoWorker(RuntimeError):
    """No worker answers there; says why."""


class Look(NamedTuple):
    """Its counters at a moment, by name; of a stage as `name:stage`.

    Jobs are counted by status as well, as `name:status`. `gpu` is its GPU's UUID.
    """

    at: float
    counters: Mapping[str, float]
    gpu: str | None


@dataclass(frozen=True, slots=True)
class Work:
    """Rates of a worker over some seconds. Shares are of the time, or of a tape's slots.

    `tape_fill` and `clips_a_tape` are None where no tape ended; `in_flight` is the number of jobs
    held at the second look; `stage_shares` of each stage the threads that it kept busy, on average;
    `cores` those that its process took, decode processes apart.
    """

    seconds: float
    device_share: float
    tape_fill: float | None
    clips_a_tape: float | None
    audio_seconds_a_second: float
    jobs_a_second: float
    in_flight: int
    stage_shares: Mapping[str, float]
    cores: float
    sick: bool


def look(url: str) -> Look:
    """What the worker at `http://host:port/metrics` counts now. Raises NoWorker."""
    try:
        answer = urllib3.request("GET", url, timeout=_TIMEOUT_SECONDS, retries=False)
        if answer.status != 200:  # noqa: PLR2004 (OK)
            raise NoWorker(f"{url} answers {answer.status}: is it a worker's EMO_METRICS_ADDRESS?")
        text = answer.data.decode()
        families = list(text_string_to_metric_families(text))
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise NoWorker(f"{url} does not answer as a worker: {error}") from error
    found = counted(families)
    if "emostream_device_seconds_total" not in found.counters:
        raise NoWorker(f"{url} is no worker's: it does not count emostream_device_seconds_total")
    return found


def counted(families: Iterable[Metric]) -> Look:
    """What those metrics count now."""
    counters: dict[str, float] = {}
    gpu = None
    for family in families:
        for sample in family.samples:
            gpu = sample.labels.get("gpu", gpu)
            stage, status = sample.labels.get("stage"), sample.labels.get("status")
            names = [f"{sample.name}:{stage}" if stage else sample.name]
            names += [f"{sample.name}:{status}"] if status else []
            for name in names:
                counters[name] = counters.get(name, 0.0) + sample.value
    return Look(time.monotonic(), counters, gpu)


def between(first: Look, second: Look) -> Work:
    """What was done from one look to the next. Raises NoWorker if the worker began anew."""
    seconds = second.at - first.at
    grown = {name: value - first.counters.get(name, 0.0) for name, value in second.counters.items()}
    if grown["emostream_device_seconds_total"] < 0:
        raise NoWorker("the worker was started again between two looks")

    def rate(name: str) -> float:
        return grown.get(name, 0.0) / seconds

    tapes = grown.get("emostream_stage_seconds_count:infer", 0.0)
    run = grown.get("emostream_tape_slots_run_total", 0.0)
    return Work(
        seconds=seconds,
        # A tape counts when it ends, and may have begun before the first look.
        device_share=min(1.0, rate("emostream_device_seconds_total")),
        tape_fill=grown["emostream_tape_slots_used_total"] / run if run else None,
        clips_a_tape=grown.get("emostream_batch_clips_count", 0.0) / tapes if tapes else None,
        audio_seconds_a_second=rate("emostream_audio_seconds_total"),
        jobs_a_second=rate("emostream_jobs_ended_total"),
        in_flight=int(second.counters.get("emostream_jobs_in_flight", 0.0)),
        stage_shares={
            name: rate(f"emostream_stage_seconds_sum:{name}")
            for name in _STAGES
            # Only where a device does it.
            if name != "resample" or "emostream_stage_seconds_sum:resample" in second.counters
        },
        cores=rate("process_cpu_seconds_total"),
        sick=second.counters.get("emostream_sick", 0.0) > 0,
    )
