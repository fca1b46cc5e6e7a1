"""What a part of control is made from, and what it brings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from producer.client import Client
from producer.control.jobs import ControlQueue
from producer.control.settings import ControlSettings


@dataclass(frozen=True, slots=True)
class Context:
    """What parts are made from: all of it lives as long as control does, and is thread-safe."""

    settings: ControlSettings
    client: Client  # of the lanes, the results and the batches
    queue: ControlQueue  # of rq


@dataclass(frozen=True, slots=True)
class Part:
    """What one part brings: see the package."""

    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    threads: Sequence[Callable[[Event], None]] = ()
