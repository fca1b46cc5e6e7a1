"""The pipeline: whatever goes wrong with a task, it comes to settle once, and harms no other."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from storage.errors import DeadlineExceeded, Internal, InvalidJob, JobError, NotAudio, OutOfMemory
from storage.wire.messages import Job
from tests.support.pipeline_bench import Bench, MakeBench, code
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.errors import DeviceLost
from worker.pipeline.budget import ByteBudget
from worker.pipeline.stage import Stage
from worker.pipeline.task import Task


@pytest.mark.parametrize("failing", ["fetch", "decode", "normalize"])
@pytest.mark.parametrize(
    ("raised", "expected"),
    [(NotAudio("no"), NotAudio), (RuntimeError("boom"), Internal)],
)
def test_an_error_in_a_stage_ends_its_task_alone(
    bench: MakeBench, failing: str, raised: Exception, expected: type[JobError]
) -> None:
    """The task comes to settle with its error, an unexpected one as Internal; the rest go on."""

    def call(name: str) -> Callable[[Any], Any]:
        def work(value: Any) -> Any:
            if name == failing and value == ["bad"]:
                raise raised
            return value

        return work

    names = ("fetch", "decode", "normalize")
    running = bench(stages=[Stage(name, call(name), threads=1) for name in names])
    running.submit("one", "three")
    running.submit("bad", value=["bad"])
    running.submit("seven77")
    running.finish()
    assert running.settled.values == {"one": [30], "three": [50], "bad": ["bad"], "seven77": [70]}
    assert type(running.settled.errors.pop("bad")) is expected
    assert set(running.settled.errors.values()) == {None}


def test_an_unexpected_error_names_its_stage_and_job(bench: MakeBench) -> None:
    """Whoever reads the result or the log can tell where it happened, and to which job."""

    def work(value: Any) -> Any:
        raise RuntimeError("boom")

    with capture_logs() as logs:
        running = bench(work)
        running.submit("a")
        running.finish()
    assert str(running.settled.errors["a"]) == "work: RuntimeError: boom"
    (event,) = [entry for entry in logs if entry["event"] == "stage.failed"]
    assert (event["stage"], event["job"]) == ("work", "a")


def test_nobody_waits_for_a_clip_that_failed(bench: MakeBench) -> None:
    """When the last clip on its way ends with an error, the tape goes at once."""
    gate = threading.Event()

    def work(value: Any) -> Any:
        if value == [4]:
            assert gate.wait(TIMEOUT_SECONDS)
            raise NotAudio("no")
        return value

    running = bench(work, max_wait_seconds=60.0)
    running.submit("slow", "a")
    until(lambda: running.pipeline._infer.inferring == 1)
    gate.set()
    running.finish()
    assert running.settled.values["a"] == [10]


@pytest.mark.parametrize(
    ("raised", "expected"), [(NotAudio("no"), "not_audio"), (MemoryError("full"), "internal")]
)
def test_a_failed_tape_fails_what_was_on_it(
    bench: MakeBench, raised: Exception, expected: str
) -> None:
    """The tapes before and after it are not affected, and the network is asked again."""
    running = bench(tape_slots=2)
    running.network.fail[4] = raised
    running.network.free.clear()
    running.submit("a")
    until(lambda: running.network.tapes)
    for each in ("bb", "four", "ccc", "55555", "666666"):
        running.submit(each)
        until(lambda: running.pipeline._infer._arrived.qsize() == running.pipeline.in_flight - 1)
    running.network.free.set()
    running.finish()
    assert running.network.tapes == [[1], [2, 4], [3, 5], [6]]
    failed = {job for job, error in running.settled.errors.items() if error}
    assert failed == {"bb", "four"}
    assert {code(running.settled.errors[job]) for job in failed} == {expected}
    assert running.settled.values["ccc"] == [30]


def test_an_output_that_is_an_error_fails_its_clip_alone(bench: MakeBench) -> None:
    """One bad window fails its whole clip, and none of its neighbours."""
    running = bench()
    running.network.reject[4] = Internal("not finite")
    running.submit("long", value=[1, 4, 1])
    running.submit("a", "bb")
    running.finish()
    assert code(running.settled.errors.pop("long")) == "internal"
    assert running.settled.errors == {"a": None, "bb": None}


def test_too_few_outputs_lose_no_task(bench: MakeBench) -> None:
    """A network that breaks its word fails the tape, instead of leaving tasks without an end."""
    running = bench()
    running.network.missing = 1
    running.submit("a", "bb", "ccc")
    running.finish()
    assert {code(error) for error in running.settled.errors.values()} == {"internal"}
    running.network.missing = 0
    running.submit("dddd")
    running.finish()
    assert running.settled.values["dddd"] == [40]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(InvalidJob("field 'want'"), "invalid_job"), (KeyError("window"), "internal")],
)
@pytest.mark.parametrize("where", ["refuse", "misjudge"])
def test_an_error_around_the_network_ends_its_task_alone(
    bench: MakeBench, where: str, raised: Exception, expected: str
) -> None:
    """Cutting a clip into windows, and pooling its outputs, may fail without harm to others."""
    running = bench()
    running.network.refuse = {"four": raised} if where == "refuse" else {}
    running.network.misjudge = {40: raised} if where == "misjudge" else {}
    running.submit("four", "a", "bb")
    running.finish()
    assert code(running.settled.errors.pop("four")) == expected
    assert running.settled.errors == {"a": None, "bb": None}
    running.submit("ccc")
    running.finish()
    assert running.settled.values["ccc"] == [30]


def test_a_task_with_an_error_goes_straight_to_settle(bench: MakeBench) -> None:
    """An invalid job needs no stage, and keeps no tape waiting."""
    calls: list[Any] = []
    running = bench(calls.append)
    running.submit("bad", error=InvalidJob("field 'key': missing"))
    running.finish()
    assert calls == []
    assert code(running.settled.errors["bad"]) == "invalid_job"
    assert running.pipeline._before_infer == 0


def test_an_abandoned_task_is_not_worked_on(bench: MakeBench) -> None:
    """Another worker has the entry: no stage and no tape is spent on it."""
    calls: list[Any] = []
    running = bench(calls.append)
    running.submit("a", abandoned=True)
    running.finish()
    assert calls == []
    assert running.network.tapes == []
    assert running.settled.errors["a"] is not None


def test_a_task_abandoned_before_its_tape_is_not_run(bench: MakeBench) -> None:
    """The lease may be lost while the clip waits for the device."""
    running = bench()
    running.network.free.clear()
    running.submit("a")
    until(lambda: running.network.tapes)
    (lost,) = running.submit("bb")
    until(lambda: running.pipeline._infer._arrived.qsize() == 1)
    lost.abandoned = True
    running.network.free.set()
    running.finish()
    assert running.network.tapes == [[1]]


def test_a_deadline_that_passed_ends_the_task(bench: MakeBench) -> None:
    """No work is done on a job whose result nobody waits for any more."""
    calls: list[Any] = []
    running = bench(calls.append)
    running.pipeline.submit(Task(Job("a", "a.wav", deadline_ms=1), value=[1]))
    running.finish()
    assert calls == []
    assert isinstance(running.settled.errors["a"], DeadlineExceeded)


def test_a_settle_that_raises_does_not_stop_the_pipeline(bench: MakeBench) -> None:
    """Its tasks leave flight with their bytes, and the next ones are settled."""
    settled: list[str] = []

    def settle(tasks: Sequence[Task]) -> None:
        settled.extend(task.job.id for task in tasks)
        if "bad" in settled:
            settled.clear()
            raise RuntimeError("boom")

    with capture_logs() as logs:
        running = bench(settle=settle)
        running.submit("bad")
        running.finish()
        running.submit("a")
        running.finish()
    assert settled == ["a"]
    (event,) = [entry for entry in logs if entry["event"] == "settle.failed"]
    assert event["jobs"] == ["bad"]


def test_bytes_come_back_however_a_task_ends(bench: MakeBench) -> None:
    """Also where the fetch failed after its bytes were admitted, in any way."""
    endings: dict[int, Exception] = {2: NotAudio("no"), 3: OSError("reset")}

    def fetch(value: list[int]) -> list[int]:
        running.budget.admit(100)
        if value[0] in endings:
            raise endings[value[0]]
        return value

    running = bench(fetch)
    running.network.fail[4] = MemoryError("full")
    running.network.free.clear()
    tasks = running.submit("a", "bb", "ccc", "dddd", "55555")
    until(lambda: len(running.settled.errors) == 2)
    running.network.free.set()
    running.finish()
    assert {task.charged_bytes for task in tasks} == {100}


def test_bytes_that_decoding_did_not_need_come_back_at_once(bench: MakeBench) -> None:
    """While the clip waits for its tape, others may be fetched in their place."""
    budget = ByteBudget(100, decoded_bytes=50)

    def fetch(value: list[int]) -> list[int]:
        budget.admit(40)
        return value

    decode = Stage("decode", lambda value: value, threads=1, holds=lambda value: 10 * value[0])
    running = bench(stages=[Stage("fetch", fetch, threads=1), decode], budget=budget)
    running.network.free.clear()
    tasks = running.submit("a", "bb")  # 90 bytes each: both would not fit
    until(lambda: len(running.network.tapes) > 0)
    until(lambda: budget.used_bytes == 30)
    running.network.free.set()
    running.finish()
    assert [task.charged_bytes for task in tasks] == [10, 20]
    assert budget.used_bytes == 0


def test_what_a_stage_left_open_is_closed(bench: MakeBench) -> None:
    """An object that was fetched and never decoded gives its descriptor back."""

    class Open:
        closed = False

        def close(self) -> None:
            self.closed = True

    left = Open()

    def decode(value: Any) -> Any:
        raise NotAudio("no")

    stages = [Stage("fetch", lambda value: left, threads=1), Stage("decode", decode, threads=1)]
    running = bench(stages=stages)
    (task,) = running.submit("a")
    running.finish()
    assert left.closed
    assert task.value is None


def test_a_lost_device_is_told_and_settles_nothing(bench: MakeBench) -> None:
    """What was on the tape is not failed: it is held, to be given back."""
    lost = threading.Event()
    running = bench(device_lost=lost.set)
    running.network.fail = {3: DeviceLost("cuda:0 answers no more")}
    running.submit("abc")
    assert lost.wait(TIMEOUT_SECONDS)
    assert running.settled.errors == {}
    assert running.pipeline.in_flight == 1


def test_a_pipeline_that_cannot_be_warmed_up_does_not_start() -> None:
    """Whoever starts it gets the reason."""
    cold = Bench()
    cold.network.cold = OutOfMemory("it does not fit")
    with pytest.raises(OutOfMemory, match="does not fit"):
        cold.pipeline.start()
    cold.end()
