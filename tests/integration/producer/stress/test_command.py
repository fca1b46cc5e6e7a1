"""`producer stress` on a real server, with something that ends its jobs: right, wrong, or never."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as ConnectionLost
from typer.testing import CliRunner, Result

from producer import program
from producer.cli import app
from producer.client import Client, Job, Lane, Submitted
from producer.stress import session
from producer.stress.report import Kept, read_run
from storage.queue.entries import Begun, Ending
from storage.queue.workers import Words
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Status
from tests.support.paced_worker import ABOUT, PacedWorker, done
from tests.support.polling import until

Stress = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[4]
OPEN = ("--rate", "60", "--duration", "0.7s", "--warm-up", "0.2s", "--different", "3")
NOT_FAILED = {0, 5}  # on a busy machine jobs may be sent late, and it says so


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One for all of these: what runs on which server is tested for the client."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def worker(server: EmbeddedRedis) -> Iterator[PacedWorker]:
    """Ends jobs at once, each as it should be; the server is empty before."""
    paced = PacedWorker(server.url)
    paced.client.flushall()
    paced = PacedWorker(server.url)
    with paced:
        yield paced


@pytest.fixture
def stress(server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stress:
    """The command, with a store of its own and a JSON file that says what it found."""
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, clips: bool = True, **variables: str) -> Result:
        environment = {"EMO_REDIS_URL": server.url, "EMO_STORE": (tmp_path / "store").as_uri()}
        source = ("--clips", "short", "--save", "run.json") if clips else ()
        command = ("stress", *source, *arguments)
        return CliRunner().invoke(app, command, env=environment | variables)

    return run


def kept(place: Path = Path("run.json")) -> Kept:
    """What it has saved."""
    return read_run(place)


def test_an_open_loop(stress: Stress, worker: PacedWorker, tmp_path: Path) -> None:
    """What was drawn is sent, once; all of it ends, and nothing of it stays in the store."""
    words = Words(worker.client, Keys("emo"), str(ABOUT["worker"]), lease_seconds=60)
    words.tell({"device_share": 0.5, "tape_fill": 0.75})
    others = Words(worker.client, Keys("emo"), "of-another-2-00000000", lease_seconds=60)
    others.tell({"device_share": 1.0, "tape_fill": 1.0})
    ran = stress(*OPEN, "--page", "run.html")
    run = kept().run
    assert ran.exit_code in NOT_FAILED, ran.output
    assert ran.exit_code == {"valid": 0, "invalid": 5}[run.verdict]
    assert (run.failed, run.largest_score_difference) == ((), 0.0)
    assert run.asked.different == 3 and run.latency is not None
    assert run.latency.count == run.jobs == pytest.approx(42, abs=25)
    assert run.rates.offered > 0
    assert run.rates.done > 0 or run.verdict == "invalid"  # where a machine stood still meanwhile
    assert run.clock_error_ms < 50
    assert (run.service.model, run.service.workers) == ("paced", 1)
    assert worker.client.xlen("emo:jobs") == 0
    assert not list((tmp_path / "store").rglob("*.wav"))
    assert run.verdict.upper() in ran.stderr
    assert "latency, as intended" in ran.stdout
    assert "<svg" in Path("run.html").read_text()
    assert [x.queued for x in run.samples if x.queued is not None]
    assert {(x.device_busy, x.tape_fill) for x in run.samples} == {(0.5, 0.75)}
    seen = {int(key.split(b"-")[-1]) for key in worker.client.keys("emo:result:stress-*-1-*")}
    assert seen == set(range(len(seen))), "each under an id of its own"


def test_a_closed_loop(stress: Stress, worker: PacedWorker) -> None:
    """Never more under way than was asked for; it is as fast as the service."""
    most = []

    def end(begun: Begun) -> Ending:
        most.append(worker.client.xlen("emo:jobs"))
        return done(begun)

    worker.end = end
    ran = stress("--concurrency", "4", "--duration", "2s", "--warm-up", "0.1s", "--json")
    assert ran.exit_code in NOT_FAILED, ran.output
    told = json.loads(ran.stdout)["run"]
    assert told["asked"]["concurrency"] == 4 and told["asked"]["rate"] is None
    assert max(most) <= 4
    assert told["jobs"] > 20


def drop_one(begun: Begun, dropped: list[str]) -> Ending | None:
    """All but one."""
    if "-1-" not in begun.job_id or dropped:
        return done(begun)
    dropped.append(begun.job_id)
    return None


def test_a_job_without_an_end_fails_the_run(stress: Stress, worker: PacedWorker) -> None:
    """It is named, and cancelled, since its audio goes."""
    dropped: list[str] = []
    worker.end = lambda begun: drop_one(begun, dropped)
    ran = stress(*OPEN, "--drain", "5s")
    assert ran.exit_code == 3, ran.output
    (fault,) = kept().run.failed
    assert fault == f"1 job: no end, it is running ({dropped[0]})"
    assert fault in ran.stderr
    assert worker.client.hget(f"emo:result:{dropped[0]}", "status") == b"cancelled"


def test_other_scores_than_alone_fail_the_run(stress: Stress, worker: PacedWorker) -> None:
    """As of a batch that its clips see each other in."""

    def end(begun: Begun) -> Ending:
        ending = done(begun)
        if "-1-" in begun.job_id:
            scores = json.loads(str(ending.fields["scores"]))
            scores["happy"] = round(abs(scores["happy"] - 0.00002), 6)
            ending = replace(ending, fields={**ending.fields, "scores": json.dumps(scores)})
        return ending

    worker.end = end
    ran = stress(*OPEN)
    assert ran.exit_code == 3, ran.output
    assert "scores differ from those alone by more than 1e-05 in float32" in ran.stderr
    assert kept().run.largest_score_difference == pytest.approx(0.00002, abs=1e-6)


def test_a_second_end_fails_the_run(stress: Stress, worker: PacedWorker) -> None:
    """Whoever told it."""
    again: list[str] = []

    def end(begun: Begun) -> Ending:
        if "-1-" in begun.job_id and not again:
            again.append(begun.job_id)
            event = {"job": begun.job_id, "status": "done", "run": 1, "finished_at_ms": 1}
            worker.client.xadd("emo:results", event)
        return done(begun)

    worker.end = end
    ran = stress(*OPEN)
    assert ran.exit_code == 3, ran.output
    assert f"1 job: 2 ends ({again[0]})" in ran.stderr


def test_failures_fail_the_run(stress: Stress, worker: PacedWorker) -> None:
    """With their codes; a clip that fails alone already is not sent at all."""
    failed = Ending(Status.FAILED, {"error_code": "not_audio", "error": "no audio in it"})
    worker.end = lambda begun: failed if "-1-" in begun.job_id else done(begun)
    ran = stress(*OPEN)
    assert ran.exit_code == 3
    assert "ended as failed, not_audio" in ran.stderr
    worker.end = lambda begun: failed
    ran = stress(*OPEN)
    assert ran.exit_code == 1
    assert "short-0.wav ends as failed (not_audio: no audio in it), alone" in ran.stderr


def slowly(begun: Begun, seconds: float) -> Ending:
    """As a service that takes so long for each."""
    time.sleep(seconds)
    return done(begun)


def test_a_run_that_the_lanes_refuse_is_invalid(stress: Stress, worker: PacedWorker) -> None:
    """It says so, and how much was sent."""
    worker.end = lambda begun: slowly(begun, 0.03)
    ran = stress(*OPEN, EMO_MAX_BACKLOG="2")
    run = kept().run
    assert ran.exit_code == 5, ran.output
    assert run.refused > 0 and not run.failed
    assert "INVALID: do not trust these figures" in ran.stderr
    assert any("jobs a second were sent of" in why for why in run.invalid)


def test_a_search(stress: Stress, worker: PacedWorker) -> None:
    """Of a service that does a hundred a second: no rate that is far above it is found."""
    worker.end = lambda begun: slowly(begun, 0.01)
    arguments = ("--find-max", "--slo", "p50<150ms", "--rate", "50")
    ran = stress(*arguments, "--duration", "1s", "--warm-up", "0.1s", "--page", "run.html")
    assert ran.exit_code in NOT_FAILED, ran.output
    found = kept()
    assert found.objective == "p50<150ms" and found.run.asked.rate is not None
    assert found.run.asked.rate == max(rate for rate, met, _ in found.steps if met) < 160
    assert {met for _, met, _ in found.steps} == {True, False}
    assert f"highest rate with p50<150ms: {found.run.asked.rate:g} jobs a second" in ran.stderr
    assert "The search for the highest rate" in Path("run.html").read_text()


def test_files_of_a_directory(stress: Stress, worker: PacedWorker, tmp_path: Path) -> None:
    """Those that lie in the store already are sent from there, and stay; others go up, and go."""
    inside, outside = tmp_path / "store" / "uploads", tmp_path / "outside"
    for place in (inside, outside):
        place.mkdir()
        (place / "a.wav").write_bytes(b"RIFF")
    for place, key in ((inside, "uploads/a.wav"), (outside, "/a.wav")):
        keys: set[str] = set()

        def end(begun: Begun, seen: set[str] = keys) -> Ending:
            seen.add(begun.delivery.fields[b"key"].decode())
            return done(begun)

        worker.end = end
        ran = stress("--files", str(place), *OPEN[:6], clips=False)
        assert ran.exit_code in NOT_FAILED, ran.output
        (sent,) = keys
        assert sent.endswith(key)
        assert (inside / "a.wav").exists()
    assert [path.name for path in (tmp_path / "store").rglob("*.wav")] == ["a.wav"]


def test_it_is_compared_with_a_run_before(stress: Stress, worker: PacedWorker) -> None:
    """What differs in what was asked for is said; a file that holds no run is refused."""
    stress(*OPEN)
    Path("run.json").rename("before.json")
    ran = stress(
        "--concurrency", "2", "--duration", "0.4s", "--warm-up", "0s", "--against", "before.json"
    )
    assert ran.exit_code in NOT_FAILED, ran.output
    assert "Against the run before" in ran.stdout
    assert "the runs differ in different, rate, arrivals, concurrency" in ran.stderr
    Path("none.json").write_text('{"run": 1}')
    ran = stress(*OPEN, "--against", "none.json")
    assert ran.exit_code == 2
    assert "none.json: holds no run that `--save` has kept" in ran.stderr


def test_ctrl_c(
    stress: Stress, worker: PacedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not ended is cancelled, what was uploaded is removed."""
    dropped: list[str] = []
    worker.end = lambda begun: drop_one(begun, dropped)

    def interrupt(*_: Any) -> None:
        until(lambda: dropped)
        raise KeyboardInterrupt

    monkeypatch.setattr(session.Session, "_drain", interrupt)
    ran = stress(*OPEN)
    assert ran.exit_code == 130, ran.output
    assert worker.client.hget(f"emo:result:{dropped[0]}", "status") == b"cancelled"
    assert not list((tmp_path / "store").rglob("*.wav"))


class Unreliable(Client):
    """Of every seventh submission the reply is lost."""

    submissions = 0

    def submit(self, job: Job | str, lane: Lane = Lane.NORMAL) -> Submitted:
        """Carried out, whatever is told."""
        submitted = super().submit(job, lane)
        Unreliable.submissions += 1
        if Unreliable.submissions % 7 == 0:
            raise ConnectionLost("connection reset")
        return submitted


def test_a_lost_reply_sends_no_job_twice(
    stress: Stress, worker: PacedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent again under the same id, and ends once; that it was late is told, if it was."""
    monkeypatch.setattr(program, "Client", Unreliable)
    ran = stress(*OPEN, "--different", "1")
    assert ran.exit_code in NOT_FAILED, ran.output
    assert Unreliable.submissions > 14
    assert kept().run.refused == 0


def test_a_producers_rights_are_enough(
    stress: Stress, worker: PacedWorker, server: EmbeddedRedis
) -> None:
    """Lanes and workers are for operators to look at: that they were not seen is said."""
    users = (ROOT / "deploy/redis/users.acl").read_text().splitlines()
    (line,) = [line for line in users if line.startswith("user emo-producer ")]
    rights = [word for word in line.split()[2:] if not word.startswith("#")]
    worker.client.execute_command("ACL", "SETUSER", "emo-producer", *rights, ">secret")
    ran = stress(*OPEN, EMO_REDIS_URL=server.url.replace("://", "://emo-producer:secret@"))
    assert ran.exit_code in NOT_FAILED, ran.output
    run = kept().run
    assert not run.failed and run.jobs
    assert {note.split()[0] for note in run.notes if "could not be" in note} == {"lanes", "workers"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name what to send: --files DIR or --clips"),
        (("--clips", "five"), "name the load: --rate R or --concurrency C"),
        (("--clips", "five", "--rate", "1", "--concurrency", "1"), "name the load"),
        (("--clips", "five", "--find-max"), "--find-max and --slo go together"),
        (("--clips", "five", "--rate", "1", "--slo", "p99<2s"), "--find-max and --slo go together"),
        (("--clips", "five", "--find-max", "--slo", "p95<2s"), "write it as p99<2s"),
        (("--clips", "five", "--find-max", "--slo", "p99<2s", "--concurrency", "2"), "leave out"),
        (("--clips", "five", "--rate", "1", "--duration", "0"), "--duration: must be more than 0"),
        (("--clips", "five", "--rate", "1", "--page", "/nowhere/run.html"), "cannot be written"),
        (("--clips", "five", "--rate", "1", "--save", "/"), "/: cannot be written"),
        (("--clips", "five", "--rate", "1e9"), "1,000,000 are the most"),
        (("--clips", "five", "--rate", "inf"), "1,000,000 are the most"),
        (("--clips", "five", "--rate", "nan"), "greater than or equal to 0.001"),
        (("--clips", "five", "--rate", "1", "--duration", "soon"), "write it as 30s, 2m or 1h"),
    ],
)
def test_what_does_not_go_together(stress: Stress, arguments: tuple[str, ...], said: str) -> None:
    """It is said at once, before anything is sent."""
    ran = stress(*arguments, clips=False)
    assert ran.exit_code == 2
    assert said in " ".join(ran.stderr.replace("│", " ").split())


def test_where_no_worker_runs(stress: Stress, server: EmbeddedRedis) -> None:
    """It is said, nothing is left behind, and no run is told."""
    ran = stress(*OPEN, "--drain", "0.2s")
    assert ran.exit_code == 1
    assert "is a worker running" in ran.stderr
    assert not Path("run.json").exists()


def test_clips_need_a_store(stress: Stress) -> None:
    """They have to be uploaded."""
    ran = stress(*OPEN, EMO_STORE="")
    assert ran.exit_code == 1
    assert "set EMO_STORE to where clips can be uploaded" in ran.stderr
