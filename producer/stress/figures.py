"""From shots to figures, and whether they are to be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from producer.client import Result
from producer.stress.alone import Alone
from producer.stress.checks import check
from producer.stress.clock import Clocks
from producer.stress.feed import Shot
from producer.stress.report import Asked, Rates, Run, Sample, Second, Service, Times
from producer.stress.sender import SENDERS
from producer.stress.waits import Stretch, Within, all_taken
from storage.percentiles import LEAST_RESULTS, P99, curve, percentile

LEAST_SENT, MOST_LATE = 0.99, 0.01
_KEPT_UP, _FEW_JOBS = 0.95, 10  # a few are always under way
_MOST_DOTS, _SLOWEST_DOTS = 1200, 60
_BUCKETS = 60
_ODD_DRIFT_SECONDS = 0.005
STAGES = ("queue", "fetch", "decode", "resample", "normalize", "infer")


@dataclass(frozen=True, slots=True)
class Ran:
    """A run as it went; `start` and `stopped` are times of `time.monotonic`.

    `stopped` is when sending was ended early, since the objective could not be met any more,
    `submissions` from when to when Redis was asked to take jobs.
    """

    asked: Asked
    shots: Sequence[Shot]
    alone: Sequence[Alone]
    start: float
    clocks: Clocks
    began_at: str
    cores: int
    foreign: int
    stopped: float | None = None
    submissions: Sequence[Stretch] = ()
    samples: Sequence[Sample] = ()
    notes: Sequence[str] = field(default=())

    @property
    def window(self) -> tuple[float, float]:
        """What is measured: from the end of the warm-up to the end of sending."""
        end = self.start + self.asked.end_s
        begin = self.start + self.asked.warm_up_s
        return begin, end if self.stopped is None else max(self.stopped, begin + 1e-3)


def summarize(ran: Ran) -> Run:
    """All that a run says."""
    _, end = ran.window
    offered = [x for x in ran.shots if x.measured and (ran.stopped is None or x.sent is not None)]
    sent = [x for x in offered if x.sent is not None and not x.refused]
    done = [(x, x.result) for x in sent if x.result is not None and x.result.done]
    latency_ms = [1000 * (_finished(x, ran) - x.intended) for x, _ in done]
    since_sent_ms = [1000 * (_finished(x, ran) - _sent(x)) for x, _ in done]
    late_ms = [1000 * (_sent(x) - x.intended) for x in sent]
    waited = Within(all_taken(ran.submissions, SENDERS))
    own_late_ms = [
        ms - 1000 * waited(x.intended, _sent(x)) for x, ms in zip(sent, late_ms, strict=True)
    ]
    rates = _rates(ran, len(offered), sent)
    failed, largest = check(ran.shots, ran.alone)
    finishes = [_finished(x, ran) for x in ran.shots if x.result is not None and x.result.ended]
    open_at_end = sum(x.sent is not None and not x.refused and x.sent < end for x in ran.shots)
    open_at_end -= sum(finish <= end for finish in finishes)
    tapes = [float(found) for _, r in done if (found := r.fields.get("batch_clips", "")).isdigit()]
    return Run(
        asked=ran.asked,
        service=_service([x.result for x in ran.alone] + [result for _, result in done]),
        began_at=ran.began_at,
        cores=ran.cores,
        invalid=doubts(rates, own_late_ms, latency_ms),
        failed=failed,
        notes=(
            *_notes(ran, rates, [result for _, result in done], max(0, open_at_end)),
            *_stood_still(ran, late_ms, own_late_ms, latency_ms),
        ),
        jobs=len(offered),
        refused=sum(x.refused for x in offered),
        rates=rates,
        latency=Times.of(latency_ms),
        from_sending=Times.of(since_sent_ms),
        late=Times.of(late_ms),
        alone=Times.of([x.took_ms for x in ran.alone]),
        stages=_stages([result for _, result in done], since_sent_ms),
        clips_per_tape=round(sum(tapes) / len(tapes), 2) if tapes else None,
        largest_score_difference=largest,
        clock_error_ms=round(1000 * ran.clocks.error_seconds, 3),
        clock_drift_ms=round(1000 * ran.clocks.drift_seconds, 3),
        drain_s=round(max(0.0, max(finishes, default=end) - end), 3),
        open_at_end=max(0, open_at_end),
        stopped_early=ran.stopped is not None,
        seconds=tuple(_seconds(ran)),
        samples=tuple(ran.samples),
        curve=tuple((share, round(ms, 3)) for share, ms in curve(latency_ms)),
        dots=_dots([x.intended - ran.start for x, _ in done], latency_ms),
    )


def doubts(rates: Rates, late_ms: Sequence[float], latency_ms: Sequence[float]) -> tuple[str, ...]:
    """Why the figures are not to be trusted: the load was not that which was asked for.

    `late_ms` is without the time in which all senders waited for Redis: no sender could have kept
    its schedule then, and latency counts from the intended time.
    """
    found = []
    if rates.sent < LEAST_SENT * rates.offered:
        found.append(
            f"{rates.sent:.4g} jobs a second were sent of {rates.offered:.4g} that were offered, "
            f"less than {LEAST_SENT:.0%}: the sender did not keep its schedule, or the lanes were "
            "full"
        )
    if _is_late(late_ms, latency_ms):
        name, late, latency = _tails(late_ms, latency_ms)
        found.append(
            f"jobs were sent up to {late:,.3f} ms late ({name}), more than {MOST_LATE:.0%} of "
            f"the latency of {latency:,.3f} ms ({name}): the sender's machine was too busy to "
            "keep its schedule"
        )
    if not latency_ms:
        found.append("no job of the measured time was done")
    return tuple(found)


def _stood_still(
    ran: Ran, late_ms: Sequence[float], own_late_ms: Sequence[float], latency_ms: Sequence[float]
) -> tuple[str, ...]:
    """Whether the schedule was not kept for want of Redis alone."""
    if not _is_late(late_ms, latency_ms) or _is_late(own_late_ms, latency_ms):
        return ()
    measured_from, _ = ran.window
    took_ms = max(1000 * (end - begin) for begin, end in ran.submissions if end > measured_from)
    return (
        f"Redis took up to {took_ms:,.0f} ms to take a job, so that all {SENDERS} senders waited "
        "and jobs were sent late: latency counts that, from the intended times",
    )


def _is_late(late_ms: Sequence[float], latency_ms: Sequence[float]) -> bool:
    """Whether jobs were sent too late for figures of them to be trusted."""
    if not (late_ms and latency_ms):
        return False
    _, late, latency = _tails(late_ms, latency_ms)
    return late > MOST_LATE * latency


def _tails(late_ms: Sequence[float], latency_ms: Sequence[float]) -> tuple[str, float, float]:
    """The p99 of both; the largest of both where there are too few results for one."""
    late, latency = (percentile(values, P99) for values in (late_ms, latency_ms))
    if late is None or latency is None:
        return "the most", max(late_ms), max(latency_ms)
    return "p99", late, latency


def _sent(shot: Shot) -> float:
    assert shot.sent is not None
    return shot.sent


def _finished(shot: Shot, ran: Ran) -> float:
    """When it ended, by our clock."""
    assert shot.result is not None
    finished_ms = shot.result.finished_at_ms
    if finished_ms is None:
        finished_ms = shot.ends[0].finished_at_ms
    return ran.clocks.ours(finished_ms)


def _rates(ran: Ran, offered: int, sent: Sequence[Shot]) -> Rates:
    begin, end = ran.window
    took = max([end, *(_sent(x) for x in sent)]) - begin
    done = [
        x.result
        for x in ran.shots
        if x.result is not None and x.result.done and begin <= _finished(x, ran) < end
    ]
    seconds = end - begin
    return Rates(
        offered=round(offered / (seconds if ran.asked.rate is not None else took), 4),
        sent=round(len(sent) / took, 4),
        done=round(len(done) / seconds, 4),
        audio_s=round(sum(x.duration_s or 0.0 for x in done) / seconds, 4),
    )


def _stages(results: Sequence[Result], since_sent_ms: Sequence[float]) -> dict[str, Times]:
    """Each stage, and what is left: waiting for the next one, the way in and out."""
    took = [result.stage_ms for result in results]
    between = [
        ms - sum(stages.get(stage, 0.0) for stage in STAGES)
        for ms, stages in zip(since_sent_ms, took, strict=True)
    ]
    named = {stage: [each[stage] for each in took if stage in each] for stage in STAGES}
    found = {name: Times.of(ms) for name, ms in {**named, "between": between}.items()}
    return {name: times for name, times in found.items() if times is not None}


def _service(results: Sequence[Result]) -> Service:
    def told(name: str) -> str:
        return ", ".join(sorted({x.fields[name] for x in results if x.fields.get(name)}))

    workers = {x.fields["worker"] for x in results if x.fields.get("worker")}
    about = (told(name) for name in ("model", "model_revision", "device", "dtype"))
    return Service(len(workers), *about)


def _notes(ran: Ran, rates: Rates, results: Sequence[Result], open_at_end: int) -> tuple[str, ...]:
    found = list(ran.notes)
    if ran.stopped is not None:
        found.append("sending was stopped early, when the objective could not be met any more")
    if ran.foreign:
        found.append(f"{ran.foreign} jobs of others ended meanwhile: they shared the workers")
    behind = rates.done < _KEPT_UP * rates.sent and open_at_end > _FEW_JOBS
    if behind and ran.asked.rate is not None:
        found.append(
            f"the service did not keep up: {open_at_end} jobs were open when sending ended, and a "
            "longer run would show longer latencies"
        )
    if len(results) < LEAST_RESULTS[P99]:
        found.append(f"no p99 of {len(results)} results: it takes {LEAST_RESULTS[P99]}")
    if abs(ran.clocks.drift_seconds) > _ODD_DRIFT_SECONDS + 2 * ran.clocks.error_seconds:
        found.append("Redis' clock was set during the run: latencies are off by as much")
    repeated = sum(result.attempts > 1 for result in results)
    if repeated:
        found.append(f"{repeated} jobs took more than one try")
    return tuple(found)


def _seconds(ran: Ran) -> list[Second]:
    """The run in stretches of equal length, up to the last end."""
    finishes = [
        _finished(x, ran) - ran.start
        for x in ran.shots
        if x.result is not None and x.result.ended and x.result.finished_at_ms
    ]
    width = max(1.0, ran.asked.end_s / _BUCKETS)
    moments = {
        "offered": [x.intended - ran.start for x in ran.shots],
        "sent": [x.sent - ran.start for x in ran.shots if x.sent is not None and not x.refused],
        "done": finishes,
    }
    last = max((at for found in moments.values() for at in found), default=0.0)
    counts = {name: [0] * (int(last / width) + 1) for name in moments}
    for name, found in moments.items():
        for at in found:
            counts[name][max(0, int(at / width))] += 1
    return [
        Second(round(number * width, 3), *(round(each / width, 3) for each in row))
        for number, row in enumerate(zip(*counts.values(), strict=True))
    ]


def _dots(at_s: Sequence[float], latency_ms: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Few enough to be drawn, the slowest among them."""
    points = list(zip(at_s, latency_ms, strict=True))
    slowest = sorted(points, key=lambda point: -point[1])[:_SLOWEST_DOTS]
    step = len(points) // _MOST_DOTS + 1
    return tuple(sorted({(round(at, 3), round(ms, 3)) for at, ms in [*points[::step], *slowest]}))
