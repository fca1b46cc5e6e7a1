"""The worker as it is, with jobs in it that kill: run by `tests.chaos.nursery` after its fork."""

import ctypes
import os
import random
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import typer

import worker.assembly.stages
import worker.audio.processes
import worker.delivery.upkeep
import worker.fitness.breaker
from storage.objects.blob import Blob
from storage.wire.channels import MIX
from storage.wire.messages import Job
from tests.chaos.kinds import KILL_DECODER_MARK
from worker.audio.process import DecodeProcess
from worker.audio.room import Spool
from worker.audio.streaming import StartStream
from worker.clip import Fetched, Renditions, Views, Waveform
from worker.commands.run import run as run_worker
from worker.stages.fetch import Fetch
from worker.stages.infer import Infer
from worker.tape import Segment

DIED_OF_JOB = "chaos.died_of_job"
_EXIT_CRASHED = 70
_PR_SET_PDEATHSIG = 1
# Consumers are reaped and lanes healed every minute; the harness has not so long.
_REAP_SECONDS = 2.0
_UNFIT_SECONDS = 0.2  # an outage of a store lasts a second at most


class DeadlyFetch(Fetch):
    """Dies of keys that say so, whoever it runs beside."""

    def __call__(self, job: Job) -> Fetched:
        """See Fetch."""
        if job.key.startswith("kill-worker-fetch"):
            _die(job)
        return super().__call__(job)


class DeadlyInfer(Infer):
    """Dies of keys that say so, as a fault of the device would have it."""

    def segments(self, job: Job, views: Views) -> list[Segment]:
        """See Infer."""
        if job.key.startswith("kill-worker-infer"):
            _die(job)
        return super().segments(job, views)


class MortalDecodeProcess(DecodeProcess):
    """Dies of files that say so."""

    def decode(
        self,
        blob: Blob,
        spool: Spool,
        channel: str = MIX,
        renditions: Renditions | None = None,
        resampler: StartStream | None = None,
    ) -> tuple[Waveform, ...]:
        """See DecodeProcess."""
        if os.pread(blob.fd, len(KILL_DECODER_MARK), 0) == KILL_DECODER_MARK:
            os.kill(self.pid, signal.SIGKILL)
        return super().decode(blob, spool, channel, renditions, resampler)


def run(settings: Mapping[str, str], log: Path) -> NoReturn:
    """Become a worker: `python -m worker run`, in the process as it was forked."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    with log.open("wb") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    os.chdir(log.parent)  # away from a developer's .env
    os.environ.update(settings)
    random.seed()  # or all workers would wait alike
    status = _EXIT_CRASHED
    try:
        with ExitStack() as patches:
            for module, name, value in _patches():
                patches.enter_context(patch.object(module, name, value))
            run_worker()
    except typer.Exit as ended:
        status = ended.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _patches() -> Sequence[tuple[Any, str, Any]]:
    return [
        (worker.assembly.stages, "Fetch", DeadlyFetch),
        (worker.assembly.stages, "Infer", DeadlyInfer),
        (worker.audio.processes, "DecodeProcess", MortalDecodeProcess),
        (worker.delivery.upkeep, "_REAP_SECONDS", _REAP_SECONDS),
        (worker.delivery.upkeep, "_HEAL_SECONDS", _REAP_SECONDS),
        (worker.fitness.breaker, "_OPEN_SECONDS", _UNFIT_SECONDS),
    ]


def _die(job: Job) -> NoReturn:
    # The harness must be able to tell this death from others. Other threads are at their lines.
    os.write(sys.stderr.fileno(), f'\n{{"event": "{DIED_OF_JOB}", "job": "{job.id}"}}\n'.encode())
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process goes on")
