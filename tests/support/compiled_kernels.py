"""Compiles the kernels for a GPU, without one.

    python -m tests.support.compiled_kernels 90-float16

Each launcher is called with tensors that are not there, and what it would launch is compiled for
that compute capability by the assembler that Triton brings along. Prints JSON: for each kernel the
registers, the bytes that a thread spills, and which instructions of the tensor cores it has.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from worker.model import kernels
from worker.model.synthetic import architecture

_POINTERS = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.int32: "*i32",
}
_OPTIONS = ("num_warps", "num_stages")
_ALIGNED = 16  # bytes, or a multiple: Triton compiles apart what is
_TENSOR_CORES = {"wgmma": "wgmma.mma_async", "mma": "mma.sync"}


def launched(
    dtype: torch.dtype, slots: int = 16_384
) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """What `random:large` launches for a tape: kernels, arguments, and keyword arguments."""
    seen: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **named: Any) -> None:
        seen.append((self, args, named))

    JITFunction.run = run
    config = architecture("large")
    dim, heads, channels = config.embed_dim, config.num_heads, config.front_end[0].channels
    with torch.device("meta"):  # shapes and dtypes alone

        def half(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype)

        roles = torch.empty(slots, dtype=torch.int32)
        edges, blocks = roles.new_empty(2, slots // 11), roles.new_empty(1 + 3 * slots // 4)
        x = half(slots, dim)
        norm = half(dim), half(dim), 1e-5
        first = half(channels), half(channels), 1e-5
        kernels.norm_gelu(half(slots * 32, channels), *first)
        kernels.norm_gelu(x, None, None, 1e-5, roles)
        kernels.add_norm(x, x, *norm)
        kernels.add_norm(x, x, *norm, roles=roles, tokens=half(10, dim))
        taps = half(16, channels)
        kernels.first_conv(torch.empty(slots * 320 + 80), taps, *first, kernel=10, stride=5)
        if dtype is not torch.float32:
            kernels.positional(x, half(16, 19, 64, 64), half(dim))
        qkv = half(slots, 3, heads, dim // heads)
        kernels.attention(qkv, blocks, torch.empty(heads), 10)
        kernels.means(x, edges)
    return seen


def compiled(capability: int, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """Each kernel's name, `registers`, `spilled` bytes, and `tensor_cores`."""
    for kernel, args, named in launched(dtype):
        options = {name: value for name, value in named.items() if name in _OPTIONS}
        bound = dict(zip(kernel.arg_names, args, strict=False)) | named
        signature, constants, aligned = {}, {}, {}
        for number, name in enumerate(kernel.arg_names):
            value = bound[name]
            if isinstance(value, torch.Tensor):
                signature[name] = _POINTERS[value.dtype]
                aligned[(number,)] = [["tt.divisibility", _ALIGNED]]
            elif value is None or kernel.params[number].is_constexpr:
                signature[name] = "constexpr"
                constants[name] = value
            elif isinstance(value, int):
                signature[name] = "i32"
                if value % _ALIGNED == 0:
                    aligned[(number,)] = [["tt.divisibility", _ALIGNED]]
            else:
                signature[name] = "fp32"
        source = ASTSource(kernel, signature, constants, aligned)
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        yield {"kernel": kernel.fn.__name__, **_usage(made.asm["cubin"]), **_cores(made.asm["ptx"])}


def _usage(cubin: bytes) -> dict[str, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    (registers,), (stack,) = (re.findall(rf"{word}:(\d+)", said) for word in ("REG", "STACK"))
    return {"registers": int(registers), "spilled": int(stack)}


def _cores(ptx: str) -> dict[str, list[str]]:
    return {"tensor_cores": [name for name, words in _TENSOR_CORES.items() if words in ptx]}


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET"):
        raise SystemExit("TRITON_INTERPRET is set: kernels would be interpreted, not compiled")
    _, *asked = sys.argv
    for each in asked:
        capability, dtype = each.split("-")
        print(json.dumps(list(compiled(int(capability), getattr(torch, dtype)))))
