"""What torch says of itself and the device.

`python -m worker.engine.report DEVICE DTYPE RESAMPLE PARENT_PID` ends with that parent. It says a
line of JSON for each step that was taken, in this order, so that whoever runs it knows at which one
it crashed or hung: `imported`, `device`, `computed`, `kernels`, `resampling`. Only a GPU takes the
third and fourth, and the last is for whoever wants torchaudio.
"""

import json
import sys
import warnings
from typing import Any

from worker.audio.confinement import die_with


def main(device: str, dtype: str) -> None:
    """Take the steps, up to the first that fails, which says `error`."""
    warnings.simplefilter("ignore")  # torch warns of what is asked for below
    import torch  # noqa: PLC0415 (whether that works is the question)

    _say("imported", version=torch.__version__, cuda=torch.version.cuda, hip=torch.version.hip)
    from worker.model.device import (  # noqa: PLC0415 (as above)
        LEAST_CAPABILITY,
        DeviceError,
        gpu_uuid,
        resolve_device,
        resolve_dtype,
    )

    try:
        chosen = resolve_device(device)
        number_format = str(resolve_dtype(dtype, chosen)).removeprefix("torch.")
    except DeviceError as error:
        return _say("device", error=str(error), cuda_error=_cuda_error())
    if chosen.type != "cuda":
        asked = device == "auto"
        return _say(
            "device", name=str(chosen), dtype=number_format, cuda_error=_cuda_error() * asked
        )
    capability = torch.cuda.get_device_capability(chosen)
    _say(
        "device",
        name=str(chosen),
        dtype=number_format,
        capability=list(capability),
        least_capability=list(LEAST_CAPABILITY),
        kernels_for=torch.cuda.get_arch_list(),
        uuid=gpu_uuid(chosen),
    )
    try:
        total = float(torch.ones(1000, device=chosen).sum())
    except RuntimeError as error:
        return _say("computed", error=_headline(error))
    _say("computed", total=total)
    if capability >= LEAST_CAPABILITY:
        _run_a_kernel(chosen)
    return None


def try_torchaudio() -> None:
    """Resample a moment, as a worker would where its device does that."""
    try:
        import torchaudio  # noqa: PLC0415 (whether that works is the question)
        from torchaudio.transforms import Resample  # noqa: PLC0415 (as above)

        Resample(8_000, 16_000)
    except Exception as error:  # of an import, of a library that lacks another
        return _say("resampling", error=_headline(error))
    return _say("resampling", version=torchaudio.__version__)


def _run_a_kernel(device: Any) -> None:
    """Have Triton build a kernel of ours, with its compiler and its cache, and run it."""
    import torch  # noqa: PLC0415 (as above)

    try:
        from worker.model.kernels import norm_gelu  # noqa: PLC0415 (whether that works)

        torch.cuda.set_device(device)  # Triton runs it on the current one
        norm_gelu(torch.ones(16, 32, device=device), None, None, 1e-5)
        torch.cuda.synchronize(device)
    except Exception as error:  # of a compiler, a linker, a driver or Triton
        return _say("kernels", error=_headline(error))
    return _say("kernels")


def _cuda_error() -> str:
    """Why no GPU can be used, as torch says it; "" where it has nothing to say."""
    import torch  # noqa: PLC0415 (as above)

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # it has no types
    except (RuntimeError, AssertionError) as error:
        return _headline(error)
    return ""


def _headline(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _say(step: str, **found: object) -> None:
    sys.stdout.write(json.dumps({"step": step, **found}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    die_with(int(sys.argv[4]))  # an import that hangs, too
    main(*sys.argv[1:3])
    if sys.argv[3] != "ffmpeg":
        try_torchaudio()
