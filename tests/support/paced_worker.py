"""Something that ends jobs at its own pace, one after the other: a worker without a network."""

import json
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from storage.queue.entries import Begun, Ending, Verdict
from storage.queue.streams import JobStreams
from storage.redis.connection import connect
from storage.wire.messages import Keys, Status
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.stream_workers import new_streams

_AT_ONCE = 500
_LOOK_SECONDS = 0.02
ABOUT: dict[str, str | int | float] = {
    "model": "paced",
    "model_revision": "r1",
    "device": "cpu",
    "dtype": "float32",
    "worker": "elsewhere-1-00000000",
    "batch_clips": 1,
    "duration_s": 5.0,
    "queue_ms": 1.0,
    "fetch_ms": 1.0,
    "decode_ms": 1.0,
    "normalize_ms": 1.0,
    "infer_ms": 1.0,
}


def scores_of(key: str) -> dict[str, float]:
    """What it finds in an object: something else in each."""
    happy = round(zlib.crc32(key.encode()) / 2**32, 6)
    return {"happy": happy, "sad": round(1 - happy, 6)}


def done(begun: Begun) -> Ending:
    """As it is by itself."""
    scores = scores_of(begun.delivery.fields[b"key"].decode())
    label = max(scores, key=scores.__getitem__)
    told: dict[str, str | int | float] = {
        "label": label,
        "score": scores[label],
        "scores": json.dumps(scores),
    }
    return Ending(Status.DONE, ABOUT | told)


class PacedWorker:
    """Ends a job every so many seconds, while there are any; use it in a `with`.

    `end` says how; None drops the job. `stall` makes the next one wait.
    """

    def __init__(self, url: str, seconds: float = 0.0) -> None:
        self.end: Callable[[Begun], Ending | None] = done
        self.client: Any = connect(url, name="paced", timeout_seconds=TIMEOUT_SECONDS)
        self._seconds = seconds
        self._stalls: deque[float] = deque()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._streams = new_streams(JobStreams, self.client, Keys("emo"), "paced", 60)

    def stall(self, seconds: float) -> None:
        """Do nothing for so long, once."""
        self._stalls.append(seconds)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self.client.close()

    def _work(self) -> None:
        waiting: deque[Begun] = deque()
        free_at = 0.0
        while not self._stopped.is_set():
            wait_seconds = 0.0 if waiting else _LOOK_SECONDS
            read = (
                self._streams.read_blocking(_AT_ONCE, block_seconds=wait_seconds)
                if wait_seconds
                else self._streams.read(_AT_ONCE)
            )
            begun = self._streams.begin(read)
            waiting += [each for each in begun if each.verdict is Verdict.RUN]
            if not waiting:
                free_at = 0.0
                continue
            if self._stalls:
                free_at = 0.0
                self._stopped.wait(self._stalls.popleft())
            # What Redis takes meanwhile does not slow it down.
            free_at = (free_at or time.monotonic()) + self._seconds
            if self._stopped.wait(max(0.0, free_at - time.monotonic())):
                return
            each = waiting.popleft()
            ending = self.end(each)
            if ending is not None:
                self._streams.finish([(each, ending)])
