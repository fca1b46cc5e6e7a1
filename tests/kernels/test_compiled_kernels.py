"""The kernels as a GPU runs them: compiled for it here, though none is at hand."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="NO TRITON: no kernel is compiled on this machine")

ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = {"_first_conv_kernel", "_positional_kernel", "_attention_kernel"}


TARGETS = ("90-float16", "90-bfloat16", "90-float32", "86-float16")


@pytest.fixture(scope="module")
def compiled() -> dict[str, list[dict[str, Any]]]:
    """What became of each kernel on each target, in a process whose kernels are not interpreted."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.support.compiled_kernels", *TARGETS]
    said = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr[-2000:]
    return dict(zip(TARGETS, map(json.loads, said.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("target", TARGETS)
def test_no_kernel_spills_and_products_are_the_tensor_cores(
    target: str, compiled: dict[str, list[dict[str, Any]]]
) -> None:
    """On a Hopper GPU, and on an A10; float32 has no tensor cores that do not round."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in compiled[target]:
        found.setdefault(each["kernel"], []).append(each)
    capability, dtype = target.split("-")
    assert PRODUCTS - found.keys() == ({"_positional_kernel"} if dtype == "float32" else set())
    for name, programs in found.items():
        for program in programs:
            assert program["spilled"] == 0, program
            assert program["registers"] <= 255, program
            wanted = name in PRODUCTS and dtype != "float32"
            assert bool(program["tensor_cores"]) == wanted, program
    if capability == "90" and dtype != "float32":
        assert found["_positional_kernel"][0]["tensor_cores"] == ["wgmma"]
        # Too few for it are a segment's tokens, as the taps of the first convolution.
        assert found["_attention_kernel"][0]["tensor_cores"] == ["wgmma", "mma"]
