"""What the doctor says of who brings audio to 16 kHz."""

from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.findings import one
from tests.support.torch_stub import broken_torch
from tests.unit.doctor.test_device import GPU, IMPORTED
from worker.doctor.device import Torch
from worker.doctor.findings import State
from worker.doctor.torch_report import TorchReport, ask_torch
from worker.settings import WorkerSettings

Setting = Literal["auto", "device", "ffmpeg"]
ON_CPU = {"name": "cpu", "dtype": "float32"}
MISSING = {"error": "No module named 'torchaudio'"}
THERE = {"version": "2.11.0+cu130"}


def said(
    setting: Setting,
    device: dict[str, Any],
    resampling: dict[str, Any],
    imported: dict[str, Any] = IMPORTED,
) -> tuple[State, str]:
    """What is said where torch reported that."""
    report = {"imported": imported, "device": device, "resampling": resampling}
    report |= {"computed": {"total": 1000.0}, "kernels": {}} if "capability" in device else {}
    settings = WorkerSettings(device="auto", resample=setting)
    return one(Torch(settings, lambda *_: TorchReport(report)).category(), "resampling")


@pytest.mark.parametrize(
    ("setting", "device", "resampling", "state", "text"),
    [
        ("ffmpeg", GPU, MISSING, State.OK, "decode processes resample"),
        ("auto", ON_CPU, MISSING, State.OK, "on the CPU: decode processes resample"),
        ("auto", ON_CPU, THERE, State.OK, "on the CPU: decode processes resample"),
        ("auto", GPU, THERE, State.OK, "torchaudio 2.11.0+cu130 resamples on cuda:0"),
        ("auto", GPU, MISSING, State.WARN, "decode processes resample, on the CPU"),
        ("device", GPU, THERE, State.OK, "resamples on cuda:0"),
        ("device", ON_CPU, THERE, State.OK, "resamples on cpu"),
        ("device", ON_CPU, MISSING, State.FAIL, "No module named 'torchaudio'"),
        ("device", GPU, {}, State.FAIL, "it said nothing"),
    ],
)
def test_who_resamples(
    setting: Setting, device: dict[str, Any], resampling: dict[str, Any], state: State, text: str
) -> None:
    """As a worker would choose; a fault where it would not start, a warning where it is slower."""
    found = said(setting, device, resampling)
    assert found[0] is state
    assert text in found[1]
    assert ("pip install '.[gpu]'" in found[1]) == (state is not State.OK)


def test_beside_a_torch_without_cuda_its_wheel_is_no_advice() -> None:
    """It does not import there either: another way is named."""
    state, text = said("device", ON_CPU, MISSING, imported={**IMPORTED, "cuda": None})
    assert state is State.FAIL
    assert "do not import beside a torch without CUDA" in text
    assert "pip install" not in text


def test_torchaudio_is_really_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the process of its own that asks torch: one that does not load is a line, not an end."""
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('libcudart.so.13: cannot open it')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    report = ask_torch("cpu", "float32", resample="auto")
    assert not report.fault
    assert report.of("resampling") == {"error": "libcudart.so.13: cannot open it"}
    monkeypatch.setenv("PYTHONPATH", broken_torch(tmp_path / "stub", "raise OSError('no torch')"))
    assert ask_torch("cpu", "float32", resample="device").of("resampling") == {}
