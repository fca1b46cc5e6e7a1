"""`python -m worker doctor`, as an operator runs it: where all is well, and where much is not."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from tests.support import nvml
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, s3_server
from tests.support.torch_stub import torch_of
from tests.support.worker_process import ROOT, TINY
from worker.model import manifest
from worker.model.weights import prepare

FILES = ("config.yaml", "tokens.txt", "model.pt")
TOO_OLD = "The NVIDIA driver on your system is too old (found version 12020)."
FEW_FILES = 300
TOO_LATE = re.compile(r"timeout|timed out|no answer within", re.IGNORECASE)


def doctor(
    place: Path, *options: str, variables: dict[str, str], limit: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it there, with these variables alone, where so many files may be opened."""

    def poor() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    dropped = ("EMO_", "TRITON_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return subprocess.run(
        [sys.executable, "-m", "worker", "doctor", *options],
        cwd=place,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        preexec_fn=poor,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as a first start leaves it."""
    directory = tmp_path_factory.mktemp("model") / "model"
    directory.mkdir()
    for name in FILES:
        shutil.copy(TINY / name, directory)
    manifest.write(directory, manifest.take(directory, "a/b", "v1", FILES))
    prepare(directory)
    return directory


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[dict[str, str]]:
    """Variables of a worker for which all is well."""
    directory = tmp_path_factory.mktemp("surroundings")
    (directory / "s3" / "audio").mkdir(parents=True)
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
    with (
        EmbeddedRedis(directory, options=options) as redis,
        s3_server(directory / "s3") as s3,
    ):
        yield {
            "EMO_REDIS_URL": redis.url,
            "EMO_STORE": s3.url("audio"),
            "EMO_S3_ACCESS_KEY": ACCESS_KEY,
            "EMO_S3_SECRET_KEY": SECRET_KEY,
            "EMO_MODEL": str(model),
            "EMO_DEVICE": "cpu",
            "EMO_METRICS_ADDRESS": "127.0.0.1:0",
            "EMO_SPOOL_DIR": str(directory),
            "EMO_BYTES_IN_FLIGHT": "64MB",
        }


def said(ran: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one object."""
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def held_up(found: dict[str, Any]) -> bool:
    """Whether something warns, and all that does is that an answer took too long."""
    worse = [each["text"] for each in found["findings"] if each["state"] in ("warn", "fail")]
    return bool(worse) and all(map(TOO_LATE.search, worse))


def test_where_all_is_well(surroundings: dict[str, str], tmp_path: Path) -> None:
    """Nothing warns, and everything was looked at but what there is none of."""
    shown = surroundings | {"PYTHONPROFILEIMPORTTIME": "1"}
    ran = doctor(tmp_path, "--json", "--strict", variables=shown)
    if held_up(said(ran)):  # by a machine that stood still: it asks for an answer in 5 s
        ran = doctor(tmp_path, "--json", "--strict", variables=shown)
    found = said(ran)
    worse = [each for each in found["findings"] if each["state"] in ("warn", "fail")]
    assert (worse, found["state"], ran.returncode) == ([], "ok", 0)
    skipped = {each["check"] for each in found["findings"] if each["state"] == "skipped"}
    assert skipped == {"driver", "GPU", "compiler", "model", "dtype", "release", "agreement"}
    assert {each["category"] for each in found["findings"]} == {
        *("settings", "machine", "torch", "decoding", "Redis", "store", "model", "workers"),
    }
    assert "| torch" not in ran.stderr.replace("  ", "")
    assert list(tmp_path.iterdir()) == []


def test_where_much_is_wrong(surroundings: dict[str, str], model: Path, tmp_path: Path) -> None:
    """Sixteen faults at once, each named, with what to do and where to read on; no secret."""
    readings = nvml.say(tmp_path / "readings", **nvml.BUSY, driver=535, cuda=12020)
    damaged = Path(shutil.copytree(model, tmp_path / "damaged"))
    (damaged / "tokens.txt").write_bytes((damaged / "tokens.txt").read_bytes()[:-1] + b"?")
    (tmp_path / "no-programs").mkdir()
    port = surroundings["EMO_REDIS_URL"].rpartition(":")[2]
    rights = "~emo:* resetchannels -@all +@all -xclaim -config -acl"
    with connect(
        surroundings["EMO_REDIS_URL"], name="test", timeout_seconds=TIMEOUT_SECONDS
    ) as client:
        client.execute_command("ACL", "SETUSER", "poor", "on", ">hush-hush", *rights.split())
        client.config_set("maxmemory-policy", "volatile-lru")
        client.config_set("appendonly", "no")
        try:
            ran = doctor(
                tmp_path,
                *("--rate", "1000"),
                limit=FEW_FILES,
                variables=surroundings
                | {
                    "EMO_REDIS_URL": f"redis://poor:hush-hush@127.0.0.1:{port}",
                    "EMO_STORE": surroundings["EMO_STORE"].replace("/audio", "/another"),
                    "EMO_OUTPUT_STORE": "file:///no/such",
                    "EMO_MODEL": str(damaged),
                    "EMO_DEVICE": "cuda",
                    "EMO_SPOOL_DIR": "/no/such/spool",
                    "EMO_BYTES_IN_FLIGHT": "900TB",
                    "EMO_WINDOW_SECOND": "20",
                    "EMO_DECODE_MEMORY_BYTES": "40MB",
                    "CUDA_LAUNCH_BLOCKING": "1",
                    "LD_LIBRARY_PATH": str(nvml.library()),
                    "NVML_STUB": str(readings),
                    "PATH": str(tmp_path / "no-programs"),
                    "PYTHONPATH": f"{torch_of(tmp_path / 'stub', init_error=TOO_OLD)}:{ROOT}",
                },
            )
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("appendonly", "yes")
            client.execute_command("ACL", "DELUSER", "poor")
    text = " ".join(ran.stdout.split())
    assert ran.returncode == 1, ran.stderr
    for fault in (
        "EMO_WINDOW_SECOND: there is no such setting",
        "lower EMO_BYTES_IN_FLIGHT",
        "the limit of open files allows",
        "/no/such/spool",
        "the driver is too old for this torch",
        "update the driver to 580.65.06 or newer",
        "CUDA_LAUNCH_BLOCKING=1",
        "there is no C compiler",
        "decode processes do not start",
        "maxmemory-policy is volatile-lru",
        "set appendonly yes",
        "too small: for EMO_RESULT_TTL_SECONDS",
        "may not run XCLAIM",
        "EMO_STORE: bucket 'another'",
        "EMO_OUTPUT_STORE: /no/such",
        "tokens.txt is damaged",
        "see: docs/doctor.md#driver",
        "will not work as it is: ",
    ):
        assert fault in text, ran.stdout
    assert "hush-hush" not in ran.stdout + ran.stderr
    assert SECRET_KEY not in ran.stdout + ran.stderr
    assert ran.stderr == ""


def test_before_anything_is_started(tmp_path: Path) -> None:
    """Without a setting at all."""
    ran = doctor(
        tmp_path, "--pre", "--json", variables={"EMO_METRICS_ADDRESS": "", "EMO_TYPO": "1"}
    )
    found = said(ran)
    assert {each["category"] for each in found["findings"]} == {
        *("settings", "machine", "torch", "decoding"),
    }
    assert found["state"] in ("warn", "fail")  # as this machine is
    assert ran.returncode == (found["state"] == "fail")


def test_wrong_settings(tmp_path: Path) -> None:
    """They are a fault like any other, and what holds a secret is not shown."""
    ran = doctor(
        tmp_path,
        "--json",
        variables={"EMO_LEASE_SECONDS": "soon", "EMO_REDIS_URL": "redis://:hush@["},
    )
    assert ran.returncode == 1
    texts = [each["text"] for each in said(ran)["findings"]]
    assert any("EMO_LEASE_SECONDS=soon" in text for text in texts)
    assert "hush" not in ran.stdout + ran.stderr
