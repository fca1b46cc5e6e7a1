"""Packages named `torch` that do not work, for processes that import it."""

from pathlib import Path

from tests.support import nvml

# What resolving a device and a dtype takes. Filled in: the build, errors, what the device is.
_SOURCE = """
import sys, types
__version__ = "{version}"
class dtype(str):
    pass
float32, bfloat16, float16 = map(dtype, ("torch.float32", "torch.bfloat16", "torch.float16"))
class device(str):
    def __new__(cls, kind, index=None):
        made = super().__new__(cls, kind if index is None else f"{{kind}}:{{index}}")
        made.type = kind
        return made
class _Sum:
    def sum(self):
        if {compute_error!r}:
            raise RuntimeError({compute_error!r})
        return 1000.0
def ones(*shape, device=None):
    return _Sum()
version = types.SimpleNamespace(cuda={cuda!r}, hip=None)
cuda = types.ModuleType("torch.cuda")
def _init():
    if {init_error!r}:
        raise RuntimeError({init_error!r})
cuda.init = _init
cuda.is_available = lambda: not {init_error!r}
cuda.device_count = lambda: 1
cuda.get_device_capability = lambda device: {capability!r}
cuda.get_device_properties = lambda device: types.SimpleNamespace(uuid={uuid!r})
cuda.get_arch_list = lambda: ["sm_80", "sm_90"]
sys.modules["torch.cuda"] = cuda
"""


def torch_of(
    directory: Path,
    *,
    version: str = "2.13.0+cu130",
    cuda: str | None = "13.0",
    init_error: str = "",
    compute_error: str = "",
    capability: tuple[int, int] = (7, 5),
) -> str:
    """Write a torch of that build, which says that of CUDA; the PYTHONPATH to find it by."""
    return broken_torch(
        directory,
        _SOURCE.format(
            version=version,
            cuda=cuda,
            init_error=init_error,
            compute_error=compute_error,
            capability=capability,
            uuid=nvml.UUID.removeprefix("GPU-"),
        ),
    )


def broken_torch(directory: Path, source: str) -> str:
    """Write a torch that does this when it is imported; the PYTHONPATH to find it by."""
    package = directory / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(source)
    return str(directory)
