"""Kernels without a GPU: Triton's interpreter runs them."""

import os

import torch

# Read when the kernels are imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
