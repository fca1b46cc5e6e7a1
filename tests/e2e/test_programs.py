"""The command lines, as users type them."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from storage.redis.embedded import EmbeddedRedis
from storage.terminal.text import plain
from storage.wire.messages import Keys
from tests.e2e.conftest import Program, run_program
from tests.support.ports import own_port
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, s3_server
from tests.support.torch_stub import broken_torch
from tests.support.worker_process import CLIPS, ROOT, SAMPLES, TINY, worker_process

IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}  # what is imported is said on stderr


def loaded_torch(ran: subprocess.CompletedProcess[str]) -> bool:
    """Whether a program that was run with `IMPORTS` has waited for torch."""
    assert "| typer" in ran.stderr
    return "| torch" in re.sub(r"\| +", "| ", ran.stderr)


HOSTILE = ["\x1b[31m.wav", "\u202egpj.wav", "[bold].wav", "\udcff.wav"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good file with a bad name, files with bad names that are no audio, and one cut short."""
    root = tmp_path_factory.mktemp("files")
    for name in HOSTILE:
        (root / name).write_bytes(b"no audio")
    (root / HOSTILE[-1]).write_bytes((CLIPS / "01_yes.wav").read_bytes())
    whole = (SAMPLES / "excited_en.mp3").read_bytes()
    (root / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def lines(
    files: Path, tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    """The directory of them classified."""
    command = ("worker", "classify", str(files), "--model", "random:tiny")
    return run_program(tmp_path_factory.mktemp("lines"), *command)


def test_classify_prints_one_json_object_a_file_and_exits_with_3_where_some_failed(
    program: Program, files: Path, tmp_path: Path
) -> None:
    """Good files are classified whatever is wrong with the others."""
    text = tmp_path / "text.mp3"
    text.write_text("no music here\n" * 100)
    good, missing = str(SAMPLES / "excited_en.mp3"), str(tmp_path / "missing.wav")
    cut = str(files / "cut.mp3")
    named = (good, str(text), missing, cut)
    ran = program("worker", "classify", *named, "--model", str(TINY), "--json")
    assert ran.returncode == 3, ran.stderr
    found = {line["file"]: line for line in map(json.loads, ran.stdout.splitlines())}
    assert set(found) == {good, str(text), missing, cut}
    assert set(found[good]) == {"file", "label", "score", "scores", "duration_s", "warning"}
    assert found[good]["duration_s"] == pytest.approx(3.68, abs=0.05)
    assert found[good]["score"] == max(found[good]["scores"].values())
    assert found[str(text)]["error_code"] == "not_audio"
    assert found[missing]["error_code"] == "object_not_found"
    assert found[cut]["warning"] == "truncated,untrained_model"


def test_classify_warns_in_a_line_as_a_result_does(
    lines: subprocess.CompletedProcess[str],
) -> None:
    """Of a file cut short."""
    (line,) = (line for line in lines.stdout.splitlines() if "cut.mp3" in line)
    assert line.endswith(" s, truncated, untrained_model)")


def test_a_file_name_cannot_steer_a_terminal(lines: subprocess.CompletedProcess[str]) -> None:
    """Nor end the program: control and bidi characters, brackets, and what is not UTF-8."""
    assert lines.returncode == 3, lines.stderr
    assert {name for name in HOSTILE if plain(name) not in lines.stdout} == set()
    assert not set("\x1b\u202e\udcff") & set(lines.stdout + lines.stderr)
    assert "Traceback" not in lines.stderr


def test_classify_exits_with_0_where_all_succeeded(program: Program) -> None:
    """Without --json there is a line a file, and the untrained model is called that."""
    ran = program("worker", "classify", str(CLIPS / "01_yes.wav"), "--model", "random:tiny")
    assert ran.returncode == 0, ran.stderr
    assert str(CLIPS / "01_yes.wav") in ran.stdout
    assert "UNTRAINED" in ran.stderr


def test_a_model_is_prepared_for_those_who_may_not_write(program: Program, tmp_path: Path) -> None:
    """Its copy is there, so that a read-only mount will do; random weights need nothing."""
    model = tmp_path / "model"
    shutil.copytree(TINY, model)
    (model / "model.pt.safetensors").unlink(missing_ok=True)
    ran = program("worker", "model", "--prepare", EMO_MODEL=str(model))
    assert (ran.returncode, ran.stdout.strip()) == (0, str(model))
    assert (model / "model.pt.safetensors").exists()
    ran = program("worker", "model", "--prepare", EMO_MODEL="random:tiny")
    assert (ran.returncode, ran.stdout) == (0, "")


def test_all_that_is_wrong_with_the_settings_is_said_at_once(program: Program) -> None:
    """A worker that cannot start names every variable, and exits with 2."""
    wrong = {"EMO_WINDOW_SECONDS": "0", "EMO_LEASE_SECONDS": "soon"}
    ran = program("worker", "run", **wrong, **IMPORTS)
    assert ran.returncode == 2
    assert not loaded_torch(ran)
    for name in ("EMO_WINDOW_SECONDS=0: must be", "EMO_LEASE_SECONDS=soon", "EMO_REDIS_URL: req"):
        assert name in ran.stderr
    assert "EMO_STORE: required" in ran.stderr


@pytest.mark.parametrize("command", [["classify", "x.wav"], ["bench", "decode"], ["run"]])
def test_a_spool_that_is_not_there_is_an_error_at_once(
    program: Program, command: list[str]
) -> None:
    """Not the surprise of the first long clip."""
    needed = {"EMO_REDIS_URL": "redis://127.0.0.1:1/0", "EMO_STORE": SAMPLES.as_uri()}
    ran = program("worker", *command, EMO_SPOOL_DIR="/no/such", **needed, **IMPORTS)
    assert ran.returncode == 2
    assert "EMO_SPOOL_DIR=/no/such: must be a directory" in ran.stderr
    assert not loaded_torch(ran)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--channel", "9", "x.wav"], "channel"), (["."], "no audio in the directories")],
)
def test_what_cannot_be_classified_is_an_error_at_once(
    program: Program, arguments: list[str], said: str
) -> None:
    """Options that make no sense, and directories with nothing in them."""
    ran = program("worker", "classify", *arguments, **IMPORTS)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert not loaded_torch(ran)


@pytest.mark.parametrize("device", ["cuda", "gpu"])
def test_a_device_that_is_not_there_is_an_error(program: Program, device: str) -> None:
    """Nothing falls back to the CPU in silence."""
    ran = program(
        "worker", "classify", "x.wav", "--model", "random:tiny", "--device", device,
        CUDA_VISIBLE_DEVICES="",
    )  # fmt: skip
    assert ran.returncode in (1, 2)
    assert f"EMO_DEVICE={device}" in ran.stderr
    assert ("worker doctor" in ran.stderr) == (device == "cuda")  # else it is the setting's form


def test_a_torch_that_does_not_load_is_a_clear_error(program: Program, tmp_path: Path) -> None:
    """In a line, whichever way it fails, and with who tells more."""
    for number, raised in enumerate(("OSError('libcublas.so.12')", "ImportError('libtorch.so')")):
        path = broken_torch(tmp_path / str(number), f"raise {raised}")
        ran = program(
            "worker", "classify", "x.wav", "--model", "random:tiny",
            PYTHONPATH=f"{path}:{ROOT}",
        )  # fmt: skip
        assert ran.returncode == 1
        assert re.search(r"cannot start: lib\w+\.so", ran.stderr), ran.stderr
        assert "worker doctor" in ran.stderr
        assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("command", [["worker", "run"], ["producer", "status", "x"]])
def test_a_redis_that_is_away_is_a_clear_error(program: Program, command: list[str]) -> None:
    """Neither program starts against nothing, or prints a traceback."""
    ran = program(
        *command,
        EMO_REDIS_URL="redis://127.0.0.1:1/0",
        EMO_STORE=SAMPLES.as_uri(),
        EMO_MODEL="random:tiny",
        EMO_METRICS_ADDRESS="",
        **IMPORTS,
    )
    assert ran.returncode == 1
    assert not loaded_torch(ran)
    assert "127.0.0.1:1" in ran.stderr
    assert ("worker doctor" in ran.stderr) == (command[0] == "worker")
    assert "Traceback" not in ran.stderr


def test_the_producer_starts_without_torch(program: Program) -> None:
    """It imports neither torch nor the worker."""
    ran = program("producer", "--help")
    assert ran.returncode == 0
    heavy = "[name for name in ('torch', 'worker', 'av') if name in sys.modules]"
    # The help of all commands imports each of them.
    told = "CliRunner().invoke(app, ['--help']).exit_code"
    imports = "import sys; from typer.testing import CliRunner; from producer.cli import app"
    listing = f"{imports}; print({told}, {heavy})"
    loaded = subprocess.run(
        [sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "0 []"


@pytest.fixture(scope="module")
def s3_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A worker on a real S3 server and a Redis of its own; the producer's variables for it."""
    place = tmp_path_factory.mktemp("s3-worker")
    root = place / "s3"
    (root / "audio").mkdir(parents=True)
    with s3_server(root) as server, EmbeddedRedis(place / "redis") as redis:
        credentials = {"EMO_S3_ACCESS_KEY": ACCESS_KEY, "EMO_S3_SECRET_KEY": SECRET_KEY}
        url = server.url("audio")
        with worker_process(place, redis.url, url, EMO_OUTPUT_STORE=url, **credentials):
            yield {"EMO_REDIS_URL": redis.url, "EMO_STORE": url, **credentials}


def test_submit_wait_and_status_over_s3(program: Program, s3_worker: dict[str, str]) -> None:
    """A local file is uploaded, classified and shown; its embedding lies in the bucket."""
    file = str(SAMPLES / "angry_de.m4a")
    ran = program(
        "producer", "submit", file, "--wait", "--json", "--want", "embedding", **s3_worker
    )
    assert ran.returncode == 0, ran.stderr
    (shown,) = map(json.loads, ran.stdout.splitlines())
    assert shown["status"] == "done"
    assert shown["embedding_key"].endswith(".npy")
    again = program("producer", "status", shown["job"], "--json", **s3_worker)
    assert {"name": shown["name"], **json.loads(again.stdout)} == shown
    plain = program("producer", "status", shown["job"], **s3_worker)
    assert shown["label"] in plain.stdout


def test_submit_prints_job_ids_that_wait_takes(program: Program, s3_worker: dict[str, str]) -> None:
    """Ids of a directory's clips; wait shows a table, and exits with 3 where some failed."""
    ran = program("producer", "submit", str(CLIPS), **s3_worker)
    assert ran.returncode == 0, ran.stderr
    jobs = ran.stdout.split()
    assert len(jobs) == len(list(CLIPS.iterdir()))
    assert program("producer", "wait", *jobs, "--timeout", "60", **s3_worker).returncode == 0
    bad = program("producer", "submit", "no/such/key.wav", "--wait", **s3_worker)
    assert bad.returncode == 3
    assert "object_not_found" in bad.stdout


def test_status_of_an_unknown_job(
    program: Program, client: Any, redis_server: EmbeddedRedis
) -> None:
    """A job nobody knows is an error; one that waits in a lane is queued."""
    url = {"EMO_REDIS_URL": redis_server.url}
    assert program("producer", "status", "nobody", **url).returncode == 1
    entry = client.xadd(Keys("emo").lanes[0], {"key": "a.wav"}).decode()
    waiting = program("producer", "status", f"high-{entry}", "--json", **url)
    assert json.loads(waiting.stdout)["status"] == "queued"


def test_probes_and_metrics_of_a_worker(
    program: Program, client: Any, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """A ready worker says so; a second one on the same address is told what to do."""
    address = f"127.0.0.1:{own_port()}"
    with worker_process(tmp_path, redis_server.url, SAMPLES, EMO_METRICS_ADDRESS=address) as worker:
        worker.wait_for("worker.ready")
        for path in ("healthz", "readyz"):
            with urlopen(f"http://{address}/{path}", timeout=60) as answer:
                assert answer.status == 200
        with urlopen(f"http://{address}/metrics", timeout=60) as answer:
            assert b"emostream_jobs_in_flight 0.0" in answer.read()
        second = program(
            "worker",
            EMO_REDIS_URL=redis_server.url,
            EMO_STORE=SAMPLES.as_uri(),
            EMO_MODEL="random:tiny",
            EMO_METRICS_ADDRESS=address,
            **IMPORTS,
        )
        assert second.returncode == 1
        assert not loaded_torch(second)
        assert f"EMO_METRICS_ADDRESS={address}" in second.stderr
        assert "Traceback" not in second.stderr
