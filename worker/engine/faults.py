"""What a device did not do, and why; and whether it is still there."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
import torch

from worker.engine.memory import is_out_of_memory
from worker.errors import DeviceLost

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the device did not do something. Keeps no traceback, which would keep its tensors."""

    text: str
    out_of_memory: bool


class Faults:
    """Tries what a device may fail at. Not thread-safe; owned by the infer thread."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.cuda = device.type == "cuda"

    def attempt(self, call: Callable[[], Result], *, doing: str = "tape") -> Result | Fault:
        """What the call gives, or why it failed; unless memory ran out, that is logged.

        Raises DeviceLost.
        """
        try:
            return call()
        except Exception as error:
            out_of_memory = is_out_of_memory(error)
            if not out_of_memory:
                log.exception("engine.failed", doing=doing)
            self.require_device()
            return Fault(f"{type(error).__name__}: {error}", out_of_memory)

    def release_memory(self) -> None:
        """Give back what a failed tape or ladder held. Raises DeviceLost."""
        if not self.cuda:
            return
        gc.collect()  # what failed may hang together in a cycle
        try:
            torch.cuda.empty_cache()
        except RuntimeError as error:
            log.warning("engine.memory_kept", error=str(error))
            self.require_device()

    def require_device(self) -> None:
        """Raise DeviceLost where a CUDA error has made the device unusable to this process."""
        if not self.cuda:
            return
        try:
            torch.cuda.synchronize(self._device)
        except RuntimeError as error:
            raise DeviceLost(f"{self._device}: {error}") from error
