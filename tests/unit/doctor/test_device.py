"""torch, driver, GPU, allocators and compiler that are not as they should be."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.support import nvml
from tests.support.findings import found, one
from tests.support.polling import until
from tests.support.torch_stub import broken_torch, torch_of
from tests.support.worker_process import ROOT
from tests.unit.doctor.conftest import Card
from worker.doctor.device import Torch
from worker.doctor.findings import Category, State
from worker.doctor.torch_report import TorchReport, ask_torch
from worker.engine import report
from worker.settings import WorkerSettings

# In torch's own words.
TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU "
    "driver by downloading and installing a new version"
)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without one, whatever this one has."""
    monkeypatch.setattr("pynvml.nvmlLib", None)
    monkeypatch.setattr("pynvml.CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))


def checks(asked: str = "cuda", /, **report: Any) -> Category:
    """The checks, of a torch that said this, or of the one that is found."""
    settings = WorkerSettings(device=asked)
    if not report:
        return Torch(settings).category()
    return Torch(settings, lambda *_: TorchReport(report)).category()


IMPORTED = {"version": "2.13.0+cu130", "cuda": "13.0", "hip": None}
GPU = {
    **{"name": "cuda:0", "dtype": "float16", "capability": [9, 0], "least_capability": [8, 0]},
    "kernels_for": ["sm_80", "sm_90"],
    "uuid": nvml.UUID,
}


def test_a_driver_that_is_too_old(
    card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classic mismatch: both versions, the driver that would do, and the wheels that would."""
    card(driver=535, cuda=12020)
    monkeypatch.setenv("PYTHONPATH", torch_of(tmp_path / "stub", init_error=TOO_OLD))
    said = found(checks())
    ((state, text),) = said["driver"]
    assert state is State.FAIL
    for part in ("CUDA 13.0", "driver 535.159.04", "CUDA 12.2", "580.65.06", "whl/cu126"):
        assert part in text
    assert [state for state, _ in said["device"] + said["GPU"]] == [State.SKIPPED] * 2
    assert one(checks("auto"), "driver")[0] is State.WARN  # it runs, on the CPU
    ((state, text),) = found(checks("auto"))["device"]
    assert (state, "too old" in text) == (State.WARN, True)


@pytest.mark.parametrize(
    ("built", "cuda", "state"),
    [
        ("12.8", 12020, State.OK),  # within a major version an older one will do
        ("12.6", 13000, State.OK),
        ("13.0", 12090, State.FAIL),
        ("12.4", 11080, State.FAIL),
        ("13.0", 13000, State.OK),
        (None, 13000, State.FAIL),
    ],
)
def test_builds_against_drivers(card: Card, built: str | None, cuda: int, state: State) -> None:
    """By the major version of both; a torch without CUDA uses no GPU."""
    card(cuda=cuda)
    assert one(checks(imported={**IMPORTED, "cuda": built}), "driver")[0] is state


def test_a_driver_that_does_not_tell_what_it_serves(card: Card) -> None:
    """Then torch itself is asked."""
    card()
    said = checks(imported=IMPORTED, device=GPU, computed={"total": 1000.0}, kernels={})
    assert one(said, "device") == (State.OK, "EMO_DEVICE=cuda is cuda:0, computing in float16 | ")


@pytest.mark.parametrize(
    ("device", "state"), [("cuda", State.FAIL), ("auto", State.OK), ("cpu", State.SKIPPED)]
)
@pytest.mark.usefixtures("no_driver")
def test_no_driver_at_all(device: str, state: State) -> None:
    """A fault where a GPU is asked for; else workers run on the CPU."""
    assert one(checks(device, imported=IMPORTED), "driver")[0] is state


@pytest.mark.parametrize(("device", "state"), [("cuda", State.FAIL), ("auto", State.WARN)])
def test_a_driver_that_is_not_loaded(card: Card, device: str, state: State) -> None:
    """There is one, so somebody wants a GPU."""
    card(init=18)
    said = one(checks(device, imported=IMPORTED), "driver")
    assert (said[0], "reboot" in said[1]) == (state, True)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise OSError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("import time; time.sleep(600)", "hung"),
        ("import sys; sys.exit(3)", "ended with 3"),
    ],
)
def test_a_torch_that_does_not_import(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error, a crash, a hang: a finding, and the others are made nonetheless."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)  # the tests of the kernels set it
    monkeypatch.setenv("PYTHONPATH", broken_torch(tmp_path / "stub", source))
    limit = 1.0 if said == "hung" else 30.0
    settings = WorkerSettings(device="cpu")
    category = Torch(settings, lambda *said: ask_torch(said[0], said[1], limit)).category()
    told = found(category)
    ((state, text),) = told["import"]
    assert (state, said in text) == (State.FAIL, True)
    assert told["allocators"][0][0] is State.OK


def test_a_torch_that_hangs_ends_with_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of a doctor that was killed."""
    mark = tmp_path / "pid"
    source = (
        "import os, pathlib, time\n"
        f"new = pathlib.Path({str(tmp_path / 'new')!r}); new.write_text(str(os.getpid()))\n"
        f"new.rename({str(mark)!r}); time.sleep(600)"
    )
    path = broken_torch(tmp_path / "stub", source)
    monkeypatch.setenv("PYTHONPATH", f"{path}:{ROOT}")
    asking = "from worker.doctor.torch_report import ask_torch; ask_torch('cpu', 'auto')"
    with subprocess.Popen([sys.executable, "-c", asking]) as doctor:
        until(mark.exists)
        pid = int(mark.read_text())
        doctor.kill()
    until(lambda: not psutil.pid_exists(pid))


def test_a_doctor_that_has_ended_already_is_told_nothing() -> None:
    """It may be killed before what it has started can ask to end with it."""
    command = [sys.executable, "-m", "worker.engine.report", "cpu", "auto", "ffmpeg"]
    ran = subprocess.run([*command, str(os.getppid())], cwd=ROOT, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, b"")


def test_a_torch_of_another_version() -> None:
    """Named with what was tested."""
    said = checks("cpu", imported={**IMPORTED, "version": "2.14.0a0+git"})
    assert one(said, "import")[0] is State.WARN
    assert one(checks("cpu", imported=IMPORTED), "import")[0] is State.OK


@pytest.mark.usefixtures("card")
def test_devices_that_do_not_compute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel for the card; in torch's words, with what it has."""
    error = "CUDA error: no kernel image is available for execution on the device"
    monkeypatch.setenv("PYTHONPATH", torch_of(tmp_path / "stub", compute_error=error))
    said = found(checks())
    ((state, text),) = said["device"]
    assert state is State.FAIL
    assert "no kernel image" in text
    assert "sm_80, sm_90" in text
    assert "7.5" in text
    assert [state for state, _ in said["GPU"]] == [State.SKIPPED]


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(
    ("error", "todo"),
    [
        ("Error 802: system not yet initialized", "fabricmanager"),
        ("Error 804: forward compatibility was attempted on non supported HW", "compat"),
        ("Error 999: unknown error", "nvidia_uvm"),
        ("No CUDA GPUs are available", "CUDA_VISIBLE_DEVICES"),
        ("Something that nobody knows", "Something that nobody knows"),
    ],
)
def test_what_torch_says_of_a_device(error: str, todo: str) -> None:
    """What to do about the errors that are known."""
    said = {"error": "EMO_DEVICE=cuda: no CUDA device is usable here", "cuda_error": error}
    state, text = one(checks(imported=IMPORTED, device=said), "device")
    assert (state, todo in text) == (State.FAIL, True)


def test_the_steps_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a kernel, of a torch that has a GPU and no Triton that would go with it."""
    monkeypatch.setenv("PYTHONPATH", torch_of(tmp_path / "stub", capability=(9, 0)))
    said = ask_torch("cuda", "auto")
    assert said.fault == ""
    assert list(said.steps) == ["imported", "device", "computed", "kernels"]
    assert said.of("device") == GPU
    assert said.of("computed") == {"total": 1000.0}
    assert said.of("kernels")["error"]


def test_a_kernel_is_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of ours, by Triton: here by its interpreter, or on the GPU that there is."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cpu":
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    report._run_a_kernel(device)
    assert capsys.readouterr().out == '{"step": "kernels"}\n'


def test_a_kernel_is_run_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Triton runs it on the current GPU, which is the first: another becomes that before."""
    kernels = pytest.importorskip("worker.model.kernels", reason="NO TRITON")
    chosen, asked = torch.device("cuda", 1), list[object]()
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr(torch.cuda, "synchronize", asked.append)
    monkeypatch.setattr(torch, "ones", lambda *shape, device: device)
    monkeypatch.setattr(kernels, "norm_gelu", lambda x, *_: asked.append(("run", x)))
    report._run_a_kernel(chosen)
    assert asked == [chosen, ("run", chosen), chosen]
    assert capsys.readouterr().out == '{"step": "kernels"}\n'


def test_a_crash_between_two_steps_is_named(card: Card) -> None:
    """By the step."""
    card()
    said = TorchReport({"imported": IMPORTED, "device": GPU}, "it was killed by signal 7")
    category = Torch(WorkerSettings(device="cuda"), lambda *_: said).category()
    assert "computing on cuda:0 failed: it was killed by signal 7" in one(category, "device")[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CUDA_LAUNCH_BLOCKING", "1"),
        ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),
        ("LD_PRELOAD", "/usr/lib/libjemalloc.so.2"),
    ],
)
def test_variables_that_change_how_memory_is_taken(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is named."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)  # the tests of the kernels set it
    assert one(checks("cpu", imported=IMPORTED), "allocators")[0] is State.OK
    monkeypatch.setenv(name, value)
    state, text = one(checks("cpu", imported=IMPORTED), "allocators")
    assert (state, name in text) == (State.WARN, True)


def test_the_stand_in_has_what_is_asked_of_it() -> None:
    """The library is one that pynvml would load."""
    assert ctypes.CDLL(str(nvml.library() / "libnvidia-ml.so.1")).nvmlSystemGetCudaDriverVersion_v2
