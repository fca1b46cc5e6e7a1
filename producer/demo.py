"""The demo: sample clips through an embedded Redis and a real worker process.

It uses the real model where it is there or the hub answers within three seconds. Otherwise it says
so in a banner and uses the bundled checkpoint, which is untrained: all it shows then is the way.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.panel import Panel

from producer.client import Client, Contract
from producer.show import results_table, shown_apart
from storage.objects.local_files import is_audio
from storage.redis.connection import RedisError
from storage.redis.embedded import EmbeddedRedis, NoServer
from storage.terminal.text import tell
from storage.wire.channels import EACH
from storage.wire.messages import Job, Status
from storage.wire.parts import Parts, SegmentAsked

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples"
CALL = "dialogue_it.ogg"
TURNS = (  # as a recognizer would tell them
    SegmentAsked(0.0, 2.1, speaker="agent", channel=0),
    SegmentAsked(2.4, 5.5, speaker="customer", channel=1),
)
BUNDLED_MODEL = ROOT / "tests" / "data" / "parity" / "tiny"
USUAL = ROOT / ".demo"
HUB_SECONDS = 3.0
LIMIT_SECONDS = 240.0

# The demo is its own world: what else is set is for real servers and jobs.
_HEEDED = (
    *("EMO_MODEL", "EMO_MODEL_REVISION", "EMO_DEVICE", "EMO_DTYPE"),
    "EMO_METRICS_ADDRESS",  # none by default: another worker may have the port
)
_PREFIX = "emo"
_HUB_UNREACHABLE = 4  # the exit status of `python -m worker model`
_STOP_SECONDS = 40.0


class DemoFailed(Exception):
    """The demo could not be shown; the message says why and what to look at."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A process that outlives this one, known by more than its number."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "_Running":
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        try:
            found = psutil.Process(self.pid)
        except psutil.NoSuchProcess:
            return None
        return found if found.create_time() == self.started else None


class Demo:
    """One that keeps what it makes in a directory, and so does not see those in others."""

    def __init__(self, directory: Path = USUAL) -> None:
        self._state = directory

    def run(self, model: str, *, keep: bool) -> int:
        """Show the demo; returns the exit status.

        `model` is `tiny`, a model name, or '' to find out. With `keep`, Redis and the worker are
        left running. Raises DemoFailed.
        """
        self.stop()
        self._state.mkdir(parents=True, exist_ok=True)
        console = Console(width=None if sys.stdout.isatty() else 150)
        chosen = self._choose_model(model, console)
        with self.redis(keep=keep) as url:
            worker = self.start_worker(url, chosen, keep=keep)
            try:
                rows = self.classify(url, worker)
            except (KeyboardInterrupt, DemoFailed):
                worker.terminate()
                raise
            console.print(results_table([(name, result) for name, _, result in rows]))
            _show_call(console, rows)
            self._explain(console, url, rows[0][1], keep=keep)
            if not keep:
                worker.terminate()
                worker.wait(_STOP_SECONDS)
            return 0 if all(result["status"] == Status.DONE for *_, result in rows) else 1

    def stop(self) -> int:
        """Stop what an earlier demo left running; returns the exit status."""
        state = self._state / "running.json"
        if not state.exists():
            return 0
        for fields in json.loads(state.read_text()):
            process = _Running(**fields).process()
            if process is not None:
                process.terminate()
                psutil.wait_procs([process], timeout=_STOP_SECONDS)
        state.unlink(missing_ok=True)
        return 0

    def _choose_model(self, model: str, console: Console) -> str:
        if model == "tiny":
            console.print(_untrained("asked for with MODEL=tiny"))
            return str(BUNDLED_MODEL)
        wanted = model or os.environ.get("EMO_MODEL", "")
        if wanted.startswith("random:"):
            return wanted
        found = subprocess.run(
            [sys.executable, "-m", "worker", "model", "--probe-seconds", str(HUB_SECONDS)],
            cwd=self._state,
            env={**environment(), **({"EMO_MODEL": wanted} if wanted else {})},
            stdout=subprocess.PIPE,
            stderr=None if sys.stderr.isatty() else subprocess.PIPE,
            text=True,
            check=False,
        )
        if found.returncode == _HUB_UNREACHABLE:
            console.print(_untrained(f"the model hub did not answer within {HUB_SECONDS:.0f} s"))
            return str(BUNDLED_MODEL)
        if found.returncode and wanted:
            raise DemoFailed(found.stderr or "the model cannot be used; see above")
        if found.returncode:
            tell(*(found.stderr or "").splitlines())
            console.print(_untrained("the model cannot be had; the reason is above"))
            return str(BUNDLED_MODEL)
        return found.stdout.strip()

    @contextmanager
    def redis(self, *, keep: bool) -> Iterator[str]:
        """An embedded server that ends with the demo unless kept."""
        # What an earlier demo left is nobody's, and another server may not be able to read it.
        shutil.rmtree(self._state / "redis", ignore_errors=True)
        try:
            server = EmbeddedRedis(self._state / "redis")
            server.start(detached=keep)
        except NoServer as error:
            raise DemoFailed(str(error)) from error
        if keep and server.pid is not None:
            self._remember(server.pid)
        try:
            yield server.url
        finally:
            if not keep:
                server.stop()

    def start_worker(self, url: str, model: str, *, keep: bool) -> subprocess.Popen[bytes]:
        """A worker on that server, which ends with this process unless kept."""
        with (self._state / "worker.log").open("wb") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", "worker", "run"],
                cwd=self._state,  # where there is no .env
                env={
                    "EMO_METRICS_ADDRESS": "",
                    **environment(),
                    "EMO_REDIS_URL": url,
                    "EMO_STORE": self._store().as_uri(),
                    "EMO_OUTPUT_STORE": self._state.as_uri(),
                    "EMO_MODEL": model,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=keep,
            )
        if keep:
            self._remember(worker.pid)
        return worker

    def _store(self) -> Path:
        """A copy of the samples: what people send later is stored beside them."""
        store = self._state / "store"
        store.mkdir(exist_ok=True)
        for clip in filter(is_audio, SAMPLES.iterdir()):
            shutil.copy(clip, store)
        return store

    def _remember(self, pid: int) -> None:
        """Note a process for `stop`; the worker, started last, is stopped first."""
        state = self._state / "running.json"
        known = json.loads(state.read_text()) if state.exists() else []
        running = _Running.of(pid)
        state.write_text(json.dumps([{"pid": running.pid, "started": running.started}, *known]))

    def classify(
        self, url: str, worker: subprocess.Popen[bytes]
    ) -> Sequence[tuple[str, str, Mapping[str, str]]]:
        """Each sample's name, job id and result."""
        client = Client(url, Contract(prefix=_PREFIX), name="emostream-demo")
        run_id = f"{int(time.time()):x}"
        clips = sorted(file.name for file in SAMPLES.iterdir() if is_audio(file))
        jobs = {
            job.id: job for job in (Job(f"demo-{run_id}-{Path(clip).stem}", clip) for clip in clips)
        }
        call = Job(f"demo-{run_id}-call", CALL, parts=Parts(channel=EACH, segments=TURNS))
        jobs[call.id] = call
        results: dict[str, Mapping[str, str]] = {}
        deadline = time.monotonic() + LIMIT_SECONDS
        try:
            for job in jobs.values():
                client.submit(job)
            while len(results) < len(jobs):
                still_open = [job_id for job_id in jobs if job_id not in results]
                try:
                    for result in client.wait(still_open, timeout_seconds=1.0):
                        results[result.job_id] = result.fields
                except TimeoutError:
                    self._check(worker, deadline)
        except RedisError as error:
            raise DemoFailed(f"Redis at {url}: {error}") from error
        return [(job.key, job_id, results[job_id]) for job_id, job in jobs.items()]

    def _check(self, worker: subprocess.Popen[bytes], deadline: float) -> None:
        log = self._state / "worker.log"
        if worker.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise DemoFailed(f"the worker ended with status {worker.returncode}:\n{tail}")
        if time.monotonic() > deadline:
            raise DemoFailed(f"no results after {LIMIT_SECONDS:.0f} s; see {log}")

    def _console(self, url: str) -> tuple[str, ...]:
        """How to open the web console on what was left running."""
        stores = f"EMO_STORE={self._store().as_uri()} EMO_OUTPUT_STORE={self._state.as_uri()}"
        return (
            "Open the web console, at http://127.0.0.1:8642:",
            f"  EMO_REDIS_URL={url} {stores} .venv/bin/python -m producer console --write",
            "",
        )

    def _explain(self, console: Console, url: str, job_id: str, *, keep: bool) -> None:
        port = url.partition("127.0.0.1:")[2].partition("/")[0]
        elsewhere = f".venv/bin/python -m producer demo --directory {self._state} --stop"
        end = "make demo-stop" if self._state == USUAL else elsewhere
        lines = [
            "",
            "Look up a result:" if keep else "Look up a result, while the server runs:",
            f"  redis-cli -p {port} HGETALL {_PREFIX}:result:{job_id}",
            f"  EMO_REDIS_URL={url} .venv/bin/python -m producer status {job_id}",
            "",
            *(self._console(url) if keep else ()),
            f"Redis and the worker go on running; `{end}` ends them."
            if keep
            else "Redis and the worker end with the demo; `make demo KEEP=1` leaves them running.",
        ]
        for line in lines:
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def _untrained(reason: str) -> Panel:
    return Panel(
        f"UNTRAINED MODEL: {reason}.\n"
        "The bundled checkpoint has random weights: its labels mean nothing, and every result\n"
        "carries warning=untrained_model. Everything else is the real thing.",
        style="bold yellow",
        expand=False,
    )


def environment() -> dict[str, str]:
    """This program's variables, less the `EMO_` ones that are not for a demo."""
    heeded = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EMO_") or name in _HEEDED
    }
    return {**heeded, "PYTHONPATH": str(ROOT)}


def _show_call(console: Console, rows: Sequence[tuple[str, str, Mapping[str, str]]]) -> None:
    """The call again, turn by turn: it was the last."""
    name, job_id, result = rows[-1]
    _, parts = shown_apart(job_id, result)
    if parts is not None:
        console.print(f"\n{name}, turn by turn and channel by channel:", highlight=False)
        console.print(parts)
