"""What is read from NVIDIA's driver, and what it is taken for."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
from prometheus_client import generate_latest

from tests.support import nvml
from worker.telemetry.gpu import GpuReading, NoGpu, Program, opened
from worker.telemetry.health import HealthServer
from worker.telemetry.metrics import Metrics
from worker.telemetry.verdict import State, verdict
from worker.telemetry.work import NoWorker, Work, between, look

Card = Callable[..., None]
Serve = Callable[[Metrics], str]


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """A card; called, it reads as it is told."""
    path = tmp_path / "readings"
    nvml.load(monkeypatch, nvml.say(path, **nvml.BUSY))

    def reads(**readings: float) -> None:
        nvml.say(path, **readings)

    return reads


@pytest.fixture
def metrics_server() -> Iterator[Serve]:
    """Serves metrics; gives their URL."""
    with ExitStack() as stack:

        def serve(metrics: Metrics) -> str:
            server = HealthServer("127.0.0.1:0", metrics, alive=lambda: True, ready=lambda: True)
            server.start()
            stack.callback(server.stop)
            return f"http://127.0.0.1:{server.port}/metrics"

        yield serve


def read() -> GpuReading:
    """The one card's reading."""
    with opened() as gpus:
        (reading,) = gpus.all()
    return reading


@pytest.mark.usefixtures("card")
def test_all_that_a_card_says() -> None:
    """In units of people: shares, bytes, watts, megahertz."""
    assert read() == GpuReading(
        index=0,
        uuid=nvml.UUID,
        name="NVIDIA A10",
        driver="580.159.04",
        utilization=0.93,
        memory_used_bytes=6_000_000_000,
        memory_total_bytes=24_000_000_000,
        watts=141.5,
        limit_watts=150.0,
        sm_mhz=1500,
        most_sm_mhz=1695,
        celsius=64,
        held_down_by=("power limit",),
        programs=(Program(4242, 1_000_000_000),),
    )


def test_sensors_that_a_card_does_not_have(card: Card) -> None:
    """They are None, and the rest is read."""
    card(memory_used=1_000_000)
    reading = read()
    sensors = ("utilization", "watts", "limit_watts", "sm_mhz", "most_sm_mhz", "celsius")
    assert [getattr(reading, name) for name in sensors] == [None] * len(sensors)
    assert (reading.held_down_by, reading.programs) == ((), ())
    assert verdict(reading).state is State.ODD


@pytest.mark.parametrize(
    ("reasons", "by"),
    [
        (0x0, ()),
        (0x1 | 0x4, ()),  # an idle card has a low clock
        (0x4, ("power limit",)),
        (0x8 | 0x40, ("heat, by the hardware",)),
        (0x8, ("the hardware",)),
        (0x20 | 0x4, ("power limit", "heat")),
    ],
)
def test_what_holds_a_clock_down(card: Card, reasons: int, by: tuple[str, ...]) -> None:
    """By NVML's bits."""
    card(memory_used=0, reasons=reasons)
    assert read().held_down_by == by


@pytest.mark.parametrize(
    ("readings", "said"),
    [
        ({"init": 9}, "not loaded"),
        ({"init": 18}, "reboot"),
        ({"init": 4}, "/dev/nvidia"),
        ({"init": 999}, "NVML says"),
        ({"count": 0}, "shows no GPU"),
        ({"gone": 1}, "Not Found"),
    ],
)
def test_why_there_is_no_gpu(card: Card, readings: dict[str, float], said: str) -> None:
    """The classic faults of a driver are named, with what to do."""
    card(**readings)
    with pytest.raises(NoGpu, match=said):
        read()


def test_a_machine_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it takes in a container."""
    monkeypatch.setattr("pynvml.nvmlLib", None)
    monkeypatch.setattr("pynvml.CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    with pytest.raises(NoGpu, match="Container Toolkit"), opened():
        pass


def test_a_card_as_metrics(card: Card) -> None:
    """Once it is named, each scrape reads it anew; what it does not say is left out."""
    metrics = Metrics()
    assert b"emostream_gpu_power_watts{" not in generate_latest(metrics.registry)
    metrics.gpu.watch(nvml.UUID)
    page = generate_latest(metrics.registry).decode()
    label = f'{{gpu="{nvml.UUID}"}}'
    assert f"emostream_gpu_utilization_ratio{label} 0.93\n" in page
    assert f"emostream_gpu_power_watts{label} 141.5\n" in page
    assert f"emostream_gpu_clock_hertz{label} 1.5e+09\n" in page
    assert f'emostream_gpu_held_down{{by="power limit",gpu="{nvml.UUID}"}} 1.0\n' in page
    card(memory_used=7)
    page = generate_latest(metrics.registry).decode()
    assert f"emostream_gpu_memory_used_bytes{label} 7.0\n" in page
    assert "emostream_gpu_power_watts{" not in page


def test_a_gpu_that_cannot_be_read_is_said_once(card: Card) -> None:
    """In the log; scrapes go on without it."""
    card(gone=1)
    metrics = Metrics()
    with structlog.testing.capture_logs() as logs:
        metrics.gpu.watch(nvml.UUID)
        assert b"emostream_sick" in generate_latest(metrics.registry)
    assert [entry["event"] for entry in logs] == ["gpu.not_read"]


def reading(**changed: object) -> GpuReading:
    """A card under load, but for what is changed."""
    usual = {
        "index": 0,
        "uuid": nvml.UUID,
        "name": "NVIDIA A10",
        "driver": "580",
        "utilization": 0.93,
        "memory_used_bytes": 6_000_000_000,
        "memory_total_bytes": 24_000_000_000,
        "watts": 140.0,
        "limit_watts": 150.0,
        "sm_mhz": 1500,
        "most_sm_mhz": 1695,
        "celsius": 60,
        "held_down_by": ("power limit",),
        "programs": (Program(4242, None),),
    }
    return GpuReading(**{**usual, **changed})  # type: ignore[arg-type]  # as they are named


def work(**changed: object) -> Work:
    """A worker under load, but for what is changed."""
    usual = {
        "seconds": 5.0,
        "device_share": 0.95,
        "tape_fill": 0.98,
        "clips_a_tape": 60.0,
        "audio_seconds_a_second": 2_000.0,
        "jobs_a_second": 400.0,
        "in_flight": 200,
        "stage_shares": {"fetch": 1.0, "decode": 3.0, "normalize": 0.5, "infer": 1.0},
        "cores": 0.5,
        "sick": False,
    }
    return Work(**{**usual, **changed})  # type: ignore[arg-type]  # as they are named


STARVED = {"device_share": 0.4, "in_flight": 9}


@pytest.mark.parametrize(
    ("gpu", "worker", "state", "said"),
    [
        # What the well-known ranges say, where nobody else is asked.
        ({}, None, State.HEALTHY, "93%"),
        ({"utilization": 0.6}, None, State.UNDER_FED, "EMO_DECODE_PROCESSES"),
        ({"utilization": 0.01}, None, State.IDLE, "4242"),
        ({"utilization": 0.01, "programs": ()}, None, State.IDLE, "no program"),
        ({"utilization": 1.0, "memory_used_bytes": 10**9}, None, State.ODD, "one kernel"),
        ({"utilization": None}, None, State.ODD, "--worker"),
        ({"memory_used_bytes": 23_900_000_000}, None, State.MEMORY_STARVED, "EMO_TAPE_SLOTS"),
        ({"held_down_by": ("heat",)}, None, State.ODD, "1500 of 1695 MHz by heat"),
        # What a worker on it knows better.
        ({}, {}, State.HEALTHY, "95%"),
        ({"utilization": 1.0, "memory_used_bytes": 10**9}, {}, State.HEALTHY, "95%"),
        ({"utilization": 1.0}, STARVED, State.UNDER_FED, "EMO_DECODE_PROCESSES"),
        ({}, {**STARVED, "stage_shares": {"fetch": 9.0, "decode": 1.0}}, State.UNDER_FED, "FETCH"),
        ({}, {**STARVED, "stage_shares": {"normalize": 1.0}}, State.UNDER_FED, "second worker"),
        (
            {},
            {**STARVED, "stage_shares": {"decode": 1.0, "resample": 1.9}},
            State.UNDER_FED,
            "second worker",
        ),
        ({}, {**STARVED, "cores": 1.4}, State.UNDER_FED, "second worker on it: this one takes 1.4"),
        ({}, {"device_share": 0.4, "in_flight": 0}, State.HEALTHY, "nothing more is waiting"),
        ({}, {"device_share": 0.8}, State.HEALTHY, "below the usual"),
        ({}, {"device_share": 0.0, "in_flight": 0, "tape_fill": None}, State.IDLE, "no job"),
        ({}, {"tape_fill": 0.5}, State.UNDER_FED, "EMO_MAX_WAIT_SECONDS"),
        ({}, {"audio_seconds_a_second": 1_000.0}, State.ODD, "50% of the 2,000"),
        ({}, {"device_share": 0.0, "in_flight": 0, "sick": True}, State.ODD, "log"),
        ({"memory_used_bytes": 23_900_000_000}, {}, State.MEMORY_STARVED, "4242"),
    ],
)
def test_verdicts(
    gpu: dict[str, object], worker: dict[str, object] | None, state: State, said: str
) -> None:
    """Each with the reason, and the setting to change where there is one."""
    found = verdict(reading(**gpu), None if worker is None else work(**worker), 2_000.0)
    assert found.state is state
    assert said in f"{found.reason}; {found.change}"
    assert bool(found.change) == (state not in {State.HEALTHY, State.IDLE})


def test_a_machine_without_a_core_left() -> None:
    """More workers or processes would give nothing."""
    found = verdict(reading(), work(**STARVED, cores=1.4), machine_busy=0.97)
    assert (found.state, "97% of this machine's cores" in found.change) == (State.UNDER_FED, True)


def test_looks_at_what_is_no_worker(metrics_server: Serve) -> None:
    """Nobody, and another program's page: each is said."""
    with pytest.raises(NoWorker, match="does not answer"):
        look("http://127.0.0.1:9/metrics")
    with pytest.raises(NoWorker, match="404"):
        look(metrics_server(Metrics()).replace("/metrics", "/other"))


def test_what_a_worker_did_between_two_looks(card: Card, metrics_server: Serve) -> None:
    """Rates over the time between, by its counters."""
    metrics = Metrics()
    metrics.gpu.watch(nvml.UUID)
    url = metrics_server(metrics)
    first = look(url)
    metrics.worked(1.5, 900, 1000)
    metrics.audio_seconds.inc(300)
    metrics.ended.labels("done", "").inc(30)
    metrics.ended.labels("failed", "not_audio").inc(10)
    metrics.observe_stage("decode", 4.0)
    for _ in range(2):
        metrics.observe_stage("infer", 0.7)
    for _ in range(40):
        metrics.batch_clips.observe(20)
    metrics.in_flight.set(7)
    second = look(url)
    assert second.gpu == nvml.UUID
    found = between(first._replace(at=0.0), second._replace(at=2.0))
    assert 0 <= found.cores < 10
    assert found == Work(
        cores=found.cores,
        seconds=2.0,
        device_share=0.75,
        tape_fill=0.9,
        clips_a_tape=20.0,
        audio_seconds_a_second=150.0,
        jobs_a_second=20.0,
        in_flight=7,
        stage_shares={"fetch": 0.0, "decode": 2.0, "normalize": 0.0, "infer": 0.7},
        sick=False,
    )
    metrics.observe_stage("resample", 1.0)  # where a device does it
    assert list(between(first, look(url)).stage_shares)[1:3] == ["decode", "resample"]
    within = between(first._replace(at=0.0), second._replace(at=1.0))
    assert within.device_share == 1.0  # most of a tape's time was before the first look
    with pytest.raises(NoWorker, match="started again"):
        between(second, first)


def test_the_stand_in_is_what_is_read(card: Card) -> None:
    """Two readings differ where the file does: nothing is remembered."""
    assert read().utilization == 0.93
    card(**{**nvml.BUSY, "utilization": 12})
    assert read().utilization == 0.12
