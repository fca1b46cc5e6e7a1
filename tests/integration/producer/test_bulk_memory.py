"""What a page of a bulk holds in memory, whatever its rows are."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

from storage.queue.bulks import BulkStatus
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Lane
from tests.support.control import Control

ROWS, ROW_BYTES = 60, 1_500_000


def test_a_page_of_huge_rows_is_not_in_memory(
    client: Any, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Each is refused, and let go before the next is read."""
    with (tmp_path / "list.jsonl").open("w") as file:
        for number in range(ROWS):
            row = {"key": f"{number}.wav", "segments": "x" * ROW_BYTES}
            file.write(json.dumps(row) + "\n")
    control = Control(redis_server.url, tmp_path)
    source = {"manifest": "list.jsonl", "store": "audio", "format": "jsonl"}
    control.bulks.create("b", Lane.BULK, source, {})
    tracemalloc.start()
    control.run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (control.status("b"), control.bulk("b").refused) == (BulkStatus.DONE, ROWS)
    assert peak < ROWS * ROW_BYTES / 4
    control.close()
