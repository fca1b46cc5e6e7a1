"""The composition root: here the four stages stand in order, and everything gets its settings."""

import os
import queue
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import structlog

from storage.objects.store import ObjectSource
from storage.queue.streams import JobStreams
from storage.queue.workers import State, Words
from storage.redis.connection import Client, connect, uptime_seconds
from storage.redis.durability import weaknesses
from storage.wire.messages import Keys
from worker.audio.processes import DecodeProcesses
from worker.audio.room import Spool
from worker.audio.speech import SpeechDetector
from worker.clip import SAMPLE_RATE_HZ
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.intake import Intake
from worker.delivery.leases import Leases
from worker.delivery.leaving import Leaving, within
from worker.delivery.results import Results
from worker.delivery.settle import Settle
from worker.delivery.telling import Telling, about_worker
from worker.engine.engine import Engine
from worker.fitness.breaker import Breaker
from worker.fitness.guard import UNGUARDED, Guard
from worker.fitness.self_test import SelfTest
from worker.pipeline.budget import ByteBudget
from worker.pipeline.capacity import affordable_jobs, jobs_for
from worker.pipeline.threads import Pipeline, SettleTasks, Stage
from worker.settings import WorkerSettings
from worker.stages.decode import Decode
from worker.stages.fetch import Fetch
from worker.stages.infer import Infer
from worker.stages.normalize import Normalize
from worker.stores import open_stores
from worker.telemetry.account import Account
from worker.telemetry.bounded_server import MOST_CONNECTIONS
from worker.telemetry.health import HealthServer
from worker.telemetry.metrics import Metrics
from worker.telemetry.trimmer import Trimmer

# What a drain takes at most beyond the grace period, with that of `Leaving`: see docs/delivery.md.
_INTAKE_SECONDS = 2.0  # a blocking read takes one
_CLOSE_SECONDS = 2.0
_PULSE_STOP_SECONDS = 1.0
# Of a decode process: its socket, its handle, its spool file, and what it has decoded.
_DECODE_DESCRIPTORS = 4
_FLOAT32_BYTES = 4
_PULSE_SECONDS = 10.0  # the longest wait for the reply to a heartbeat

log = structlog.get_logger(__name__)


class Stop(Enum):
    """Why a worker stops."""

    ASKED = auto()
    DEVICE_LOST = auto()


@dataclass(frozen=True, slots=True)
class Assembly:
    """A pipeline and what it stands on. The pipeline is not started yet."""

    pipeline: Pipeline
    processes: DecodeProcesses

    def close(self) -> None:
        """End all stage threads and decode processes."""
        self.pipeline.terminate()
        self.processes.close()


def assemble(
    settings: WorkerSettings,
    engine: Engine,
    source: ObjectSource,
    spool: Spool,
    *,
    settle: SettleTasks,
    metrics: Metrics,
    guard: Guard = UNGUARDED,
    device_lost: Callable[[], None] = lambda: None,
) -> Assembly:
    """Fetch → decode → normalize → infer → settle, with the limits of the settings."""
    infer = Infer(engine, worked=metrics.worked)
    decoded_bytes = round(settings.window_seconds * SAMPLE_RATE_HZ * _FLOAT32_BYTES)
    budget = ByteBudget(
        settings.bytes_in_flight,
        decoded_bytes=decoded_bytes,
        frames_bytes=infer.most_frames_bytes,
    )
    limits = settings.audio_limits()
    processes = DecodeProcesses(settings.decode_processes, limits, spool)
    fetch = guard.unless_open(
        Fetch(source, max_object_bytes=settings.max_object_bytes, admit=budget.admit)
    )
    decode = Decode(processes, limits, SpeechDetector(settings.speech_options()))
    normalize = Normalize(settings.window_seconds, max_audio_seconds=settings.max_audio_seconds)

    pipeline = Pipeline(
        [
            Stage("fetch", fetch, settings.fetch_threads, settings.fetch_timeout_seconds),
            Stage(
                "decode",
                guard(decode),
                settings.decode_processes,
                isolated=guard(decode.isolated),
                holds=lambda recording: recording.held_bytes(decoded_bytes),
            ),
            Stage("normalize", normalize, threads=0),  # where it was decoded
        ],
        infer,
        settle=settle,
        capacity=affordable_jobs(
            settings.jobs_in_flight or jobs_for(engine.tape_slots),
            beside=settings.fetch_threads  # a connection each
            + _DECODE_DESCRIPTORS * settings.decode_processes
            + MOST_CONNECTIONS,
        ),
        budget=budget,
        max_wait_seconds=settings.max_wait_seconds,
        observe=metrics.observe_stage,
        device_lost=device_lost,
    )
    metrics.in_flight.set_function(lambda: pipeline.in_flight)
    metrics.bytes_in_flight.set_function(lambda: budget.used_bytes)
    metrics.decode_confined.set_function(lambda: processes.confined)
    metrics.spool_bytes.set_function(lambda: spool.used_bytes)
    return Assembly(pipeline, processes)


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
        self._streams = self._job_streams(self._client)
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
        results = Results(
            guard.unless_open(stores.outputs.put),
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
        )
        self._assembly = assemble(
            settings,
            engine,
            stores.audio,
            spool,
            settle=self._settle,
            metrics=self.metrics,
            guard=guard,
            device_lost=lambda: self.stop(Stop.DEVICE_LOST),
        )
        self._trimmer = Trimmer()
        self._heartbeat = Heartbeat(
            self._job_streams(self._pulse_client),
            self._leases,
            lease_seconds=settings.lease_seconds,
            stalled=self._assembly.pipeline.stalled,
            metrics=self.metrics,
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
        )

        self._telling = Telling(
            self._words,
            Account(self.metrics),
            self._breaker,
            about=about_worker(engine.model.described, settings.agreed())
            | {"capacity": self._assembly.pipeline.capacity},
            lease_seconds=settings.lease_seconds,
            stuck=self._assembly.pipeline.stalled,
            connected=lambda: self._intake.connected,
        )

    def run(self) -> Stop:
        """Work until `stop`, then drain: finish what fits the grace period, give back the rest.

        Returns why it was stopped, a few seconds after the grace period at the latest.
        """
        pipeline = self._assembly.pipeline
        health = self._health_server()
        self._telling.start()
        pipeline.start()
        self._heartbeat.start()
        self._trimmer.start()
        self._breaker.start()
        self._intake.start()
        if health:
            health.start()  # bound before, but it answers only now
        log.info("worker.ready", owner=self._owner, capacity=pipeline.capacity)
        self._telling.say(State.READY)
        reason = self._requests.get()
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
        self._breaker.stop()
        self._telling.stop(_PULSE_STOP_SECONDS)
        self._leaving.leave()
        if health:
            health.stop()
        log.info("worker.stopped", drained=drained and stopped)
        return reason

    def stop(self, reason: Stop = Stop.ASKED) -> None:
        """Ask `run` to drain and return. May be called from a signal handler, or any thread."""
        self.stopping = reason
        self._requests.put(reason)

    def _job_streams(self, client: Client) -> JobStreams:
        settings = self._settings
        return JobStreams(
            client,
            owner=self._owner,
            keys=Keys(settings.prefix),
            lease_seconds=settings.lease_seconds,
            result_ttl_seconds=settings.result_ttl_seconds,
            results_maxlen=settings.results_maxlen,
            max_crashes=settings.max_crashes,
            max_job_bytes=settings.max_job_bytes,
        )

    def _health_server(self) -> HealthServer | None:
        if not self._settings.metrics_address:
            return None
        return HealthServer(
            self._settings.metrics_address,
            self.metrics,
            healthy=lambda: not self._assembly.pipeline.stalled(),
            ready=lambda: (
                self._intake.connected and not self._breaker.open and self.stopping is None
            ),
        )
