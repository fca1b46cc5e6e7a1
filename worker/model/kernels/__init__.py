"""What a GPU computes in kernels of our own, in Triton: between the libraries' matrix products.

All sizes but the number of channels are arguments at run time, so that one program serves tapes of
every length. Each accumulates in float32. On tensors of a CPU they run in Triton's interpreter,
where `TRITON_INTERPRET=1` was set before this module was imported.
"""

from worker.model.kernels.convs import first_conv, grouped_taps, padded_taps, positional
from worker.model.kernels.norms import add_norm, norm_gelu
from worker.model.kernels.spans import (
    attention,
    attention_blocks,
    block_size,
    means,
    most_blocks,
)

__all__ = [
    "add_norm",
    "attention",
    "attention_blocks",
    "block_size",
    "first_conv",
    "grouped_taps",
    "means",
    "most_blocks",
    "norm_gelu",
    "padded_taps",
    "positional",
]
