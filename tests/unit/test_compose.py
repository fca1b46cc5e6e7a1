"""compose.yaml and the Dockerfile agree with the programs they run."""

import ast
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from storage.settings import load, unknown_variables
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent  # where the wheels put redis-server and rclone
WORKERS = ["worker", "worker-gpu"]
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
START_SECONDS = 20


@cache
def compose() -> dict[str, Any]:
    """The file as Compose sees it where no variable is set."""
    text = (ROOT / "compose.yaml").read_text("utf-8")
    document: dict[str, Any] = yaml.safe_load(VARIABLE.sub(r"\2", text))
    return document


@cache
def dockerfile() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, (name, rest of the line)."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text("utf-8"))
    lines = [line.partition(" ") for line in text.splitlines() if line and line[0] != "#"]
    return [(name, rest.strip()) for name, _, rest in lines]


def service(name: str) -> dict[str, Any]:
    """One service of compose.yaml."""
    found: dict[str, Any] = compose()["services"][name]
    return found


def seconds(duration: str) -> int:
    """A Compose duration of one unit, such as 40s or 20m."""
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def test_follows_the_compose_specification() -> None:
    """The file is valid by the schema of the Compose specification."""
    schema = ["--builtin-schema", "vendor.compose-spec"]
    command = [str(SCRIPTS / "check-jsonschema"), *schema, str(ROOT / "compose.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_variables_are_known_settings() -> None:
    """Every EMO_ variable is a setting of the worker, so that a typing error cannot go unseen."""
    used: set[str] = set()
    for file in ["compose.yaml", "Dockerfile", "deploy/compose.env.example", "docs/docker.md"]:
        used |= set(re.findall(r"\bEMO_[A-Z0-9_]+", (ROOT / file).read_text("utf-8")))
    assert used
    assert unknown_variables(WorkerSettings, dict.fromkeys(used, "")) == []


@pytest.mark.parametrize("name", WORKERS)
def test_worker_accepts_its_settings(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The environment that a worker gets is valid, and whole."""
    monkeypatch.chdir(tmp_path)  # away from a developer's .env
    for variable in [variable for variable in os.environ if variable.startswith("EMO_")]:
        monkeypatch.delenv(variable)
    for variable, value in service(name)["environment"].items():
        monkeypatch.setenv(variable, value)
    settings = load(WorkerSettings, required=["redis_url", "store", "s3_access_key", "model"])
    assert settings.s3_secret_key.get_secret_value()


def test_example_lists_every_variable_with_its_default() -> None:
    """deploy/compose.env.example names each variable of compose.yaml, with a default it has."""
    used: dict[str, set[str]] = {}
    for name, default in VARIABLE.findall((ROOT / "compose.yaml").read_text("utf-8")):
        used.setdefault(name, set()).add(default)
    lines = (ROOT / "deploy/compose.env.example").read_text("utf-8").splitlines()
    example = dict(line.split("=", 1) for line in lines if line and line[0] != "#")
    assert example.keys() == used.keys()
    for name, value in example.items():
        assert value in used[name], name


@pytest.mark.parametrize("name", WORKERS)
def test_worker_can_be_scaled(name: str) -> None:
    """Nothing of a worker is taken by its first replica: no fixed name, no port on the host."""
    assert {"container_name", "hostname", "ports"}.isdisjoint(service(name))


@pytest.mark.parametrize("name", WORKERS)
def test_worker_has_time_to_drain(name: str) -> None:
    """Docker waits longer before it kills a worker than the worker takes to drain."""
    grace_seconds = float(service(name)["environment"]["EMO_GRACE_SECONDS"])
    assert seconds(service(name)["stop_grace_period"]) >= grace_seconds + 5


@pytest.mark.parametrize("name", WORKERS)
def test_worker_is_asked_where_it_listens(name: str) -> None:
    """The health check is a Python program, and asks for readiness at the metrics address."""
    kind, python, option, program = service(name)["healthcheck"]["test"]
    assert (kind, python, option) == ("CMD", "python", "-c")
    ast.parse(program)
    address = service(name)["environment"]["EMO_METRICS_ADDRESS"]
    assert f"http://127.0.0.1:{address.rpartition(':')[2]}/readyz" in program


@pytest.mark.parametrize("name", WORKERS)
def test_worker_writes_only_where_it_may(name: str) -> None:
    """The root file system is read-only, and spool and model cache lie on what is mounted."""
    worker = service(name)
    assert worker["read_only"] is True
    tmpfs = {mount.partition(":")[0] for mount in worker["tmpfs"]}
    volumes = {mount.split(":")[1] for mount in worker["volumes"]}
    environment = dict(
        assignment.split("=", 1)
        for name, rest in dockerfile()
        if name == "ENV"
        for assignment in shlex.split(rest)
    )
    assert worker["environment"]["EMO_SPOOL_DIR"] in tmpfs
    assert environment["HOME"] in tmpfs
    assert environment["MODELSCOPE_CACHE"] in volumes
    for cache_dir in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        # Docker mounts every tmpfs noexec: what is compiled there cannot be loaded.
        assert str(Path(environment[cache_dir]).parent) in volumes


def test_gpu_worker_reserves_a_gpu() -> None:
    """The GPU worker runs the GPU flavour on a device that Docker gives it."""
    worker = service("worker-gpu")
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert worker["build"]["args"] == {"FLAVOUR": "gpu"}
    assert worker["environment"]["EMO_DEVICE"] == "cuda"


@pytest.mark.parametrize("name", ["worker", "worker-gpu", "producer", "s3", "redis", "bucket"])
def test_service_is_confined(name: str) -> None:
    """No service has capabilities, or a port that other machines can reach."""
    assert service(name)["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service(name).get("ports", []))


def test_image_copies_what_exists() -> None:
    """Each path that the Dockerfile copies is in the repository, and .dockerignore lets it in."""
    patterns = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    copies = [rest for name, rest in dockerfile() if name == "COPY" and "--from" not in rest]
    sources = [source for rest in copies for source in rest.split()[:-1]]
    assert {"producer", "storage", "worker"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in allowed), source


@pytest.mark.parametrize("module", ["worker", "producer"])
def test_image_runs_programs_that_exist(module: str) -> None:
    """What the image starts by default, and what the producer service starts, are programs."""
    instructions = dict(dockerfile())
    entrypoint = ast.literal_eval(instructions["ENTRYPOINT"])
    started = {
        "worker": [*entrypoint, *ast.literal_eval(instructions["CMD"])],
        "producer": service("producer")["entrypoint"],
    }
    assert started[module][:3] == ["python", "-m", module]
    assert (ROOT / module / "__main__.py").is_file()


def test_image_is_labelled_with_the_version() -> None:
    """The version in the image's label is the project's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert ("ARG", f"VERSION={project['version']}") in dockerfile()


@contextmanager
def running(command: list[str], environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a server while the block lasts."""
    with subprocess.Popen(
        command, env=os.environ | (environment or {}), stdout=subprocess.DEVNULL
    ) as server:
        try:
            yield
        finally:
            server.terminate()


def test_redis_command_keeps_what_it_is_given(tmp_path: Path) -> None:
    """Redis, run as the service runs it, keeps an append-only file and never evicts a key."""
    program, *options = service("redis")["command"]
    path = str(tmp_path / "redis.sock")
    place = ["--port", "0", "--unixsocket", path, "--dir", str(tmp_path)]
    with running([str(SCRIPTS / program), *options, *place]):
        until_it_is_up = Retry(ConstantBackoff(0.05), START_SECONDS * 20)
        client = redis.Redis(unix_socket_path=path, decode_responses=True, retry=until_it_is_up)
        settings: Any = client.config_get()
        assert settings["appendonly"] == "yes"
        assert settings["save"] == ""
        assert settings["maxmemory-policy"] == "noeviction"
        assert int(settings["maxmemory"]) == 1 << 30


def test_store_has_the_bucket_and_the_samples(tmp_path: Path) -> None:
    """The S3 server, run as the service runs it, becomes healthy, and gets bucket and samples."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    here = {":9000": address, "/data": str(tmp_path), "/samples": str(ROOT / "samples")}
    rclone = str(SCRIPTS / "rclone")
    serve = [here.get(argument, argument) for argument in service("s3")["command"]]
    copy = [here.get(argument, argument) for argument in service("bucket")["command"]]
    environment = service("s3")["environment"] | {"RCLONE_S3_ENDPOINT": f"http://{address}"}
    kind, _rclone, *check = service("s3")["healthcheck"]["test"]
    assert kind == "CMD"

    def client(arguments: list[str], **changes: str) -> int:
        """Run rclone as the services do, and return its exit status."""
        changed = os.environ | environment | changes
        command = [rclone, *arguments]
        return subprocess.run(command, env=changed, capture_output=True, check=False).returncode

    with running([rclone, *serve], environment):
        deadline = time.monotonic() + START_SECONDS
        while client(check) != 0:
            assert time.monotonic() < deadline, "the S3 server does not become healthy"
        assert client(check, RCLONE_S3_SECRET_ACCESS_KEY="wrong") != 0
        assert client(copy) == 0
    bucket = compose()["x-settings"]["EMO_STORE"].rpartition("/")[2]
    stored = {path.name for path in (tmp_path / bucket / "samples").iterdir()}
    assert stored == {
        path.name
        for path in (ROOT / "samples").iterdir()
        if path.is_file() and path.suffix not in {".md", ".py"}
    }
