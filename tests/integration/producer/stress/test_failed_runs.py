"""Runs of `producer stress` that fail, are invalid or cut off, on a real server."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as ConnectionLost

from producer import program
from producer.client import Client, Job, Lane, Result, Submitted
from producer.stress import session
from producer.stress.feed import Shot
from storage.queue.entries import Begun, Ending
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Status
from tests.support.acl import PRODUCER, let_in
from tests.support.paced_worker import PacedWorker, done
from tests.support.polling import until
from tests.support.stress_commands import NOT_FAILED, OPEN, Stress, drop_one, kept, slowly


def test_a_job_without_an_end_fails_the_run(
    stress: Stress, worker: PacedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, and cancelled, since its audio goes."""
    dropped: list[str] = []
    worker.end = lambda begun: drop_one(begun, dropped)
    drain = session.Session._drain

    def patiently(self: session.Session, shots: dict[str, Shot]) -> None:
        """All others have as long as was agreed; the one that never ends need not."""
        sent = [shot for shot in shots.values() if shot.sent is not None]
        until(lambda: [shot.job_id for shot in sent if not shot.ends] == dropped)
        assert self._target.drain_seconds == 60
        self._target = replace(self._target, drain_seconds=0.2)
        drain(self, shots)

    monkeypatch.setattr(session.Session, "_drain", patiently)
    ran = stress(*OPEN, "--drain", "60s")
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


def test_a_run_that_the_lanes_refuse_is_invalid(stress: Stress, worker: PacedWorker) -> None:
    """It says so, and how much was sent."""
    worker.end = lambda begun: slowly(begun, 0.03)
    ran = stress(*OPEN, EMO_MAX_BACKLOG="2")
    run = kept().run
    assert ran.exit_code == 5, ran.output
    assert run.refused > 0 and not run.failed
    assert "INVALID: do not trust these figures" in ran.stderr
    assert any("jobs a second were sent of" in why for why in run.invalid)


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
    assert "stopped: what had not ended was cancelled" in ran.stderr
    assert worker.client.hget(f"emo:result:{dropped[0]}", "status") == b"cancelled"
    assert not list((tmp_path / "store").rglob("*.wav"))


@pytest.mark.parametrize("when", ["at Ctrl-C", "after the drain", "alone"])
def test_what_cannot_be_cancelled_keeps_its_audio(
    when: str,
    stress: Stress,
    worker: PacedWorker,
    server: EmbeddedRedis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A producer may not cancel: who may is said, and that jobs may run on, and nothing else."""
    dropped: list[str] = []
    drain = session.Session._drain

    def drop(begun: Begun) -> Ending | None:
        if when != "alone":
            return drop_one(begun, dropped)
        dropped.append(begun.job_id)
        return None

    class Hasty(Client):
        """Waits no longer for a job that was dropped."""

        def wait(self, job_ids: Sequence[str], **options: Any) -> Iterator[Result]:
            until(lambda: dropped)
            raise TimeoutError

    def late(self: session.Session, shots: dict[str, Shot]) -> None:
        sent = [shot for shot in shots.values() if shot.sent is not None]
        until(lambda: [shot.job_id for shot in sent if not shot.ends] == dropped)
        if when == "at Ctrl-C":
            raise KeyboardInterrupt
        self._target = replace(self._target, drain_seconds=0.2)
        drain(self, shots)

    worker.end = drop
    monkeypatch.setattr(session.Session, "_drain", late)
    if when == "alone":
        monkeypatch.setattr(program, "Client", Hasty)
    url = server.url.replace("://", let_in(worker.client, PRODUCER))
    ran = stress(*OPEN, "--drain", "60s", EMO_REDIS_URL=url)
    assert ran.exit_code == {"at Ctrl-C": 130, "after the drain": 3, "alone": 1}[when], ran.output
    assert "1 job(s) are open, and cannot be cancelled: the user of EMO_REDIS_URL" in ran.stderr
    assert "emo-operator may" in ran.stderr
    stopped = "stopped: 1 job(s) that had not ended were not cancelled, and may run on"
    assert (stopped in ran.stderr) == (when == "at Ctrl-C")
    assert worker.client.hget(f"emo:result:{dropped[0]}", "status") == b"running"
    assert len(list((tmp_path / "store").rglob("*.wav"))) == 3
    assert "3 upload(s) stay, for jobs that may run on" in ran.stderr


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


def test_where_no_worker_runs(stress: Stress, server: EmbeddedRedis) -> None:
    """It is said, nothing is left behind, and no run is told."""
    ran = stress(*OPEN, "--drain", "0.2s")
    assert ran.exit_code == 1
    assert "is a worker running" in ran.stderr
    assert not Path("run.json").exists()
