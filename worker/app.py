"""The composition root: here everything that a worker is gets its settings."""

import os
import queue
import secrets
import socket
import time
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

import structlog

from storage.queue.workers import State, Words
from storage.redis.connection import connect, uptime_seconds
from storage.redis.durability import weaknesses
from worker.assembly.stages import assemble
from worker.audio.room import Spool
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.intake import Intake
from worker.delivery.leases import Leases
from worker.delivery.leaving import Leaving, within
from worker.delivery.results import Results
from worker.delivery.settle import Settle
from worker.delivery.telling import Telling, about_worker
from worker.engine.engine import Engine
from worker.fitness.breaker import Breaker
from worker.fitness.guard import Guard
from worker.fitness.self_test import SelfTest
from worker.pipeline.awake import AwakeClock
from worker.pipeline.progress import Progress
from worker.settings import WorkerSettings
from worker.stores import open_stores, open_streams
from worker.telemetry.account import Account
from worker.telemetry.health import HealthServer
from worker.telemetry.liveness import Liveness
from worker.telemetry.metrics import Metrics
from worker.telemetry.trimmer import Trimmer

# What a drain takes at most beyond the grace period, with that of `Leaving`: see docs/delivery.md.
_INTAKE_SECONDS = 2.0  # a blocking read takes one
_CLOSE_SECONDS = 2.0
_PULSE_STOP_SECONDS = 1.0
_LISTEN_SECONDS = 0.5
_PULSE_SECONDS = 10.0  # the longest wait for the reply to a heartbeat

log = structlog.get_logger(__name__)


class Stop(Enum):
    """Why a worker stops."""

    ASKED = auto()
    DEVICE_LOST = auto()


class Worker:
    """Intake, pipeline and heartbeat around one Redis and one engine."""

    def __init__(self, settings: WorkerSettings, engine: Engine) -> None:
        self._settings = settings
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._client = connect(settings.redis_url, name=f"emostream-{self._owner}")
        # A connection of its own: a heartbeat must not wait behind anything.
        self._pulse_client = connect(
            settings.redis_url,
            name=f"emostream-{self._owner}-pulse",
            # One that gets no answer must leave time for another before the leases run out.
            timeout_seconds=min(_PULSE_SECONDS, settings.lease_seconds / 4),
        )
        # Not an event: a signal handler may not wait for the lock of one.
        self._requests = queue.SimpleQueue[Stop]()
        self.stopping: Stop | None = None
        self.metrics = Metrics()
        if uuid := engine.gpu_uuid:
            self.metrics.gpu.watch(uuid)
        self._leases = Leases()
        self._streams = open_streams(settings, self._client, self._owner)
        self._words = Words(
            self._client,
            self._streams.keys,
            self._owner,
            lease_seconds=settings.lease_seconds,
        )
        self._leaving = Leaving(self._streams, self._leases, self._words, metrics=self.metrics)
        stores = open_stores(settings)
        spool = Spool(Path(settings.spool_dir), settings.spool_bytes)
        test = SelfTest(check_spool=spool.check, stores=stores.probes)
        self._breaker = Breaker(test, metrics=self.metrics)
        guard = Guard(self._breaker)
        self._awake = AwakeClock()
        progress = Progress(self._awake)
        results = Results(
            guard.unless_open(progress.moving(stores.outputs.put)),
            output_prefix=settings.output_prefix,
            describe=engine.model.described,
            untrained=engine.model.untrained,
        )
        self._settle = Settle(
            self._streams,
            self._leases,
            results,
            max_attempts=settings.max_attempts,
            retry_seconds=settings.retry_seconds,
            metrics=self.metrics,
            moved=progress.moved,
        )
        self._assembly = assemble(
            settings,
            engine,
            stores.audio,
            spool,
            settle=self._settle,
            metrics=self.metrics,
            guard=guard,
            progress=progress,
            device_lost=lambda: self.stop(Stop.DEVICE_LOST),
        )
        self._trimmer = Trimmer()
        self._heartbeat = Heartbeat(
            open_streams(settings, self._pulse_client, self._owner),
            self._leases,
            lease_seconds=settings.lease_seconds,
            stalled=self._assembly.pipeline.stalled,
            metrics=self.metrics,
            progress=progress,
        )
        self._intake = Intake(
            self._streams,
            self._assembly.pipeline,
            self._leases,
            self._breaker,
            lease_seconds=settings.lease_seconds,
            max_job_bytes=settings.max_job_bytes,
            uptime_seconds=lambda: uptime_seconds(self._client),
            weaknesses=lambda: weaknesses(self._client),
            metrics=self.metrics,
            progress=progress,
        )
        self._liveness = Liveness(self._assembly.pipeline.stuck)

        self._telling = Telling(
            self._words,
            Account(self.metrics),
            self._breaker,
            about=about_worker(engine.model.described, settings.agreed())
            | {"capacity": self._assembly.pipeline.capacity},
            lease_seconds=settings.lease_seconds,
            stuck=self._liveness.stuck,
            connected=lambda: self._intake.connected,
        )

    def run(self) -> Stop:
        """Work until `stop`, then drain: finish what fits the grace period, give back the rest.

        Returns why it was stopped, a few seconds after the grace period at the latest.
        """
        pipeline = self._assembly.pipeline
        health = self._health_server()
        self._awake.start()
        self._telling.start()
        pipeline.start()
        self._heartbeat.start()
        self._trimmer.start()
        self._breaker.start()
        self._intake.start()
        if health:
            health.start()  # bound before, but it answers only now
        self._telling.say(State.READY)
        log.info("worker.ready", owner=self._owner, capacity=pipeline.capacity)
        reason = self._next_request()
        self._telling.say(State.DRAINING)
        grace = self._settings.grace_seconds if reason is Stop.ASKED else 0.0
        log.info("worker.draining", in_flight=pipeline.in_flight, grace_seconds=grace)
        ends_at = time.monotonic() + grace
        stopped = self._intake.stop(_INTAKE_SECONDS)
        pipeline.close()
        drained = pipeline.join(max(0.0, ends_at - time.monotonic()))
        self._settle.stop()
        # Redis, or a stage, may hang: then the jobs wait for their leases, and nobody for us.
        if not within(_CLOSE_SECONDS, self._assembly.close):
            log.error("worker.stage_hangs", close_seconds=_CLOSE_SECONDS)
        self._leaving.give_back()
        # Last: until here, what is being finished must not be taken over by another worker.
        self._heartbeat.stop(_PULSE_STOP_SECONDS)
        self._trimmer.stop()
        self._awake.stop()
        self._breaker.stop()
        self._telling.stop(_PULSE_STOP_SECONDS)
        self._leaving.leave()
        if health:
            health.stop()
        log.info("worker.stopped", drained=drained and stopped)
        return reason

    def _next_request(self) -> Stop:
        """Wait to be asked to stop.

        Python runs a signal's handler between two steps of this thread. One that comes just before
        the wait would be heard only after it: so the wait has an end.
        """
        while True:
            with suppress(queue.Empty):
                return self._requests.get(timeout=_LISTEN_SECONDS)

    def stop(self, reason: Stop = Stop.ASKED) -> None:
        """Ask `run` to drain and return. May be called from a signal handler, or any thread."""
        self.stopping = reason
        self._requests.put(reason)

    def _health_server(self) -> HealthServer | None:
        if not self._settings.metrics_address:
            return None
        return HealthServer(
            self._settings.metrics_address,
            self.metrics,
            alive=self._liveness.alive,
            ready=lambda: (
                self._intake.connected and not self._breaker.open and self.stopping is None
            ),
        )
