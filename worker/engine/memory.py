"""How long a tape may be for the memory at hand, and how to tell that it was too long."""

import psutil
import torch

from worker.model.model import Model
from worker.tape import MAX_TAPE_SLOTS_GPU, max_tape_slots_cpu

# Of the memory that is free once the weights are in place.
TAPE_SHARE_OF_FREE_MEMORY = 0.5
# Vectors of `embed_dim` that are alive at once for one slot, in the widest part of a block: the
# input, q, k and v; or the input and two hidden layers of 4 × embed_dim. Half as much to spare.
VECTORS_PER_SLOT = 16

# The CPU's allocator and cuBLAS have no class for it, only these words in a RuntimeError.
OUT_OF_MEMORY_WORDS = (
    "can't allocate memory",
    "out of memory",
    "ALLOCATION_FAILED",
    "ALLOC_FAILED",
    "bad_alloc",
)


def affordable_slots(model: Model, longest_slots: int) -> int:
    """The tape that the device's free memory allows, up to what is of use."""
    if model.device.type == "cuda":
        free_bytes, most = torch.cuda.mem_get_info(model.device)[0], MAX_TAPE_SLOTS_GPU
    else:
        free_bytes = psutil.virtual_memory().available
        most = max_tape_slots_cpu(torch.get_num_threads())
    # The attention bias of the longest window: in float32, and a copy in the model's dtype.
    bias_bytes = model.config.num_heads * longest_slots**2 * (4 + model.dtype.itemsize)
    free_bytes = max(0, free_bytes - bias_bytes)
    slot_bytes = VECTORS_PER_SLOT * model.config.embed_dim * model.dtype.itemsize
    return min(most, int(TAPE_SHARE_OF_FREE_MEMORY * free_bytes / slot_bytes))


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or numpy ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
