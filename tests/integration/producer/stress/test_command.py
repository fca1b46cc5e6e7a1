"""`producer stress` on a real server: what is asked for, sent, and told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from storage.queue.entries import Begun, Ending
from storage.queue.workers import Words
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.support.acl import PRODUCER, let_in
from tests.support.paced_worker import ABOUT, PacedWorker, done
from tests.support.stress_commands import NOT_FAILED, OPEN, Stress, kept, slowly


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


def test_workers_that_did_no_clip_alone_are_looked_at_too(
    stress: Stress, worker: PacedWorker
) -> None:
    """All that the results name are in the figures, and so in the line that counts them."""
    other = "another-2-00000000"
    for name, share in ((str(ABOUT["worker"]), 0.5), (other, 1.0)):
        words = Words(worker.client, Keys("emo"), name, lease_seconds=60)
        words.tell({"device_share": share, "tape_fill": share})

    def end(begun: Begun) -> Ending:
        ended = done(begun)
        alone = "-1-" not in begun.job_id
        return ended if alone else replace(ended, fields={**ended.fields, "worker": other})

    worker.end = end
    ran = stress(*OPEN)
    assert ran.exit_code in NOT_FAILED, ran.output
    run = kept().run
    assert run.service.workers == 2
    assert {(x.device_busy, x.tape_fill) for x in run.samples} == {(0.75, 0.75)}


def test_a_closed_loop(stress: Stress, worker: PacedWorker) -> None:
    """Never more under way than was asked for; it is as fast as the service."""
    most = []

    def end(begun: Begun) -> Ending:
        most.append(worker.client.xlen("emo:jobs"))
        return done(begun)

    worker.end = end
    for _ in range(3):  # a machine that stands still for two seconds leaves none to send in
        ran = stress("--concurrency", "4", "--duration", "2s", "--warm-up", "0.1s", "--json")
        assert ran.exit_code in NOT_FAILED, ran.output
        told = json.loads(ran.stdout)["run"]
        assert told["asked"]["concurrency"] == 4 and told["asked"]["rate"] is None
        assert max(most) <= 4
        if told["jobs"] > 20:
            break
    assert told["jobs"] > 20


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


def test_a_producers_rights_are_enough(
    stress: Stress, worker: PacedWorker, server: EmbeddedRedis
) -> None:
    """Lanes and workers are for operators to look at: that they were not seen is said."""
    ran = stress(*OPEN, EMO_REDIS_URL=server.url.replace("://", let_in(worker.client, PRODUCER)))
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


def test_clips_need_a_store(stress: Stress) -> None:
    """They have to be uploaded."""
    ran = stress(*OPEN, EMO_STORE="")
    assert ran.exit_code == 1
    assert "set EMO_STORE to where clips can be uploaded" in ran.stderr
