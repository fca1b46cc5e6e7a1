"""compose.yaml and the Dockerfile agree with the programs they run."""

import ast
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from producer.console.settings import ConsoleSettings
from producer.control.settings import ControlSettings
from producer.exporter.settings import ExporterSettings
from storage.redis.url import parse_redis_url
from storage.settings import load, unknown_variables
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent  # where the wheels put redis-server and rclone
WORKERS = ["worker", "worker-gpu"]
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
KEY = re.compile(r"\$\{(\w+):\?run deploy/new-keys first\}")


@cache
def compose() -> dict[str, Any]:
    """The file as Compose sees it where no variable is set but the keys, each to its own name."""
    text = VARIABLE.sub(r"\2", (ROOT / "compose.yaml").read_text("utf-8"))
    document: dict[str, Any] = yaml.safe_load(KEY.sub(r"key-of-\1", text))
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
    """Every EMO_ variable is a setting of a program, so that a typing error cannot go unseen."""
    used: set[str] = set()
    for file in ["compose.yaml", "Dockerfile", "deploy/compose.env.example", "docs/docker.md"]:
        used |= set(re.findall(r"\bEMO_[A-Z0-9_]+", (ROOT / file).read_text("utf-8")))
    assert used
    unknown = [
        set(unknown_variables(kind, dict.fromkeys(used, "")))
        for kind in (WorkerSettings, ControlSettings, ExporterSettings, ConsoleSettings)
    ]
    assert set.intersection(*unknown) == set()


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


def test_exporter_accepts_its_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And its address is the one that Prometheus is told to scrape."""
    monkeypatch.chdir(tmp_path)
    for variable, value in service("exporter")["environment"].items():
        monkeypatch.setenv(variable, value)
    settings = load(ExporterSettings, required=["redis_url"])
    port = settings.exporter_address.rpartition(":")[2]
    config = (ROOT / "deploy/observability/prometheus/prometheus.yml").read_text("utf-8")
    assert f"exporter:{port}" in config
    worker_port = service("worker")["environment"]["EMO_METRICS_ADDRESS"].rpartition(":")[2]
    assert f"port: {worker_port}" in config


def test_example_lists_every_variable_with_its_default() -> None:
    """deploy/compose.env.example names each variable of compose.yaml, with a default it has."""
    used: dict[str, set[str]] = {}
    text = (ROOT / "compose.yaml").read_text("utf-8")
    for name, default in [*VARIABLE.findall(text), *((key, "") for key in KEY.findall(text))]:
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
    mounts = [mount.split(":")[1:] for mount in worker["volumes"]]
    volumes = {path for path, *mode in mounts if mode != ["ro"]}
    environment = dict(
        assignment.split("=", 1)
        for name, rest in dockerfile()
        if name == "ENV"
        for assignment in shlex.split(rest)
    )
    assert worker["environment"]["EMO_SPOOL_DIR"] in tmpfs
    assert environment["HOME"] in tmpfs
    assert [environment["MODELSCOPE_CACHE"], "ro"] in mounts
    if name == "worker":
        return
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


@pytest.mark.parametrize(("worker", "model"), [("worker", "model"), ("worker-gpu", "model-gpu")])
def test_weights_are_written_by_one_service_alone(worker: str, model: str) -> None:
    """It ends before a worker starts, of the same image and model, and knows no secrets."""
    assert service(worker)["depends_on"][model]["condition"] == "service_completed_successfully"
    assert service(model)["image"] == service(worker)["image"]
    assert service(model)["profiles"] == service(worker)["profiles"]
    assert service(model)["volumes"] == ["models:/models"]
    environment = service(model)["environment"]
    assert environment == {"EMO_MODEL": service(worker)["environment"]["EMO_MODEL"]}


@pytest.mark.parametrize("name", sorted(compose()["services"]))
def test_service_is_confined(name: str) -> None:
    """No service has capabilities, endless processes, or a port that other machines can reach."""
    assert service(name)["cap_drop"] == ["ALL"]
    assert service(name)["read_only"] is True
    assert 0 < service(name)["pids_limit"] <= 1024
    assert all(port.startswith("127.0.0.1:") for port in service(name).get("ports", []))


def test_there_are_no_default_keys() -> None:
    """Compose refuses to start without: nothing that is secret has a value in the file."""
    text = (ROOT / "compose.yaml").read_text("utf-8")
    secret = re.compile(r"KEY|PASSWORD|AUTH")
    assert not [name for name, _ in VARIABLE.findall(text) if secret.search(name)]
    for found in compose()["services"].values():
        for name, value in found.get("environment", {}).items():
            if secret.search(name):
                assert "key-of-" in value, name


USERS = {
    "worker": "emo-worker",
    "worker-gpu": "emo-worker",
    "producer": "emo-producer",
    "operator": "emo-operator",
    "exporter": "emo-monitor",
    "console": "emo-operator",
}


@pytest.mark.parametrize(("name", "user"), USERS.items())
def test_each_program_has_its_own_user_of_redis(name: str, user: str) -> None:
    """With the password that the server is given for it."""
    url = parse_redis_url(service(name)["environment"]["EMO_REDIS_URL"])
    password = f"REDIS_{user.removeprefix('emo-').upper()}_PASSWORD"
    assert url.options == {
        "username": user,
        "password": service("redis")["environment"][password],
    }


def test_the_console_asks_for_a_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its environment is valid; it listens to all of its container, whose port is local."""
    monkeypatch.chdir(tmp_path)
    for variable, value in service("console")["environment"].items():
        monkeypatch.setenv(variable, value)
    settings = load(ConsoleSettings, required=["redis_url", "store", "console_password"])
    assert not settings.loopback
    (port,) = service("console")["ports"]
    assert port == f"127.0.0.1:8642:{settings.port}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the scripts of deploy/ work on, to be written to."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    for name in ("compose.yaml", "Dockerfile"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_new_keys_are_made_once(checkout: Path) -> None:
    """Each another, for this user's eyes alone; what is there already stays, and the defaults."""

    def made() -> dict[str, str]:
        subprocess.run([checkout / "deploy/new-keys"], check=True, stdout=subprocess.DEVNULL)
        lines = (checkout / ".env").read_text("utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if line and line[0] != "#")

    names = set(KEY.findall((checkout / "compose.yaml").read_text("utf-8")))
    first = made()
    keys = [first[name] for name in names]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch("[0-9a-f]{48}", key) for key in keys)
    assert first["REDIS_PORT"] == "6379"
    assert stat.S_IMODE((checkout / ".env").stat().st_mode) == 0o600
    assert made() == first
    (checkout / ".env").write_text("EMO_S3_ACCESS_KEY=mine")
    assert made()["EMO_S3_ACCESS_KEY"] == "mine"
    assert made().keys() == names


DIGEST = f"sha256:{64 * 'a'}"


def test_images_of_others_are_pinned_by_their_digests(checkout: Path) -> None:
    """All of them and not ours, again with a newer one; what is no digest stops it."""
    docker = checkout / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f"#!/bin/sh\necho {DIGEST}\n")
    docker.chmod(0o755)

    def pin() -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": f"{docker.parent}:{os.environ['PATH']}"}
        command = [checkout / "deploy/pin-images"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert pin().returncode == 0
    docker.write_text(docker.read_text().replace("aa", "bb"))  # it has moved on
    done = pin()
    assert len(done.stdout.splitlines()) == 5
    text = (checkout / "compose.yaml").read_text() + (checkout / "Dockerfile").read_text()
    images = re.findall(r"(?:image: |PYTHON_IMAGE=)(\S+)", text)
    assert {image.partition("@")[2] for image in images if not image.startswith("emostream:")} == {
        f"sha256:{64 * 'b'}"
    }
    assert "emostream:cpu@" not in text
    docker.write_text("#!/bin/sh\necho sha256:short\n")
    assert pin().returncode == 1
    assert (checkout / "compose.yaml").read_text() in text
