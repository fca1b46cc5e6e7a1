"""What keeps a server from filling up, however many jobs end; and what is never cut for it."""

from typing import Any

from storage.queue.batches import Batching
from storage.queue.bulks import Bulks, BulkStatus
from storage.queue.entries import Ends
from storage.queue.steps import Driver
from storage.queue.streams import JobStreams
from storage.wire.messages import Keys, Lane
from tests.support.callbacks import add, told
from tests.support.stream_workers import DEAD, DONE, lives_for, new_streams, now_ms

MAXLEN, JOBS = 100, 1000
# Redis cuts whole nodes of a stream, of a hundred entries each.
MOST = MAXLEN + 2 * 100
WEEK_MS = 7 * 86_400_000


def test_events_are_cut_and_what_waits_is_not(client: Any, keys: Keys) -> None:
    """Of results and batches the newest are kept; each dead letter and each webhook stays."""
    one = new_streams(JobStreams, client, keys, "one", 60, results_maxlen=MAXLEN)
    batching, driver = Batching(keys, Ends(60, MAXLEN)), Driver(client)
    for batch in range(JOBS // 2):
        driver.run(batching.seal(f"batch-{batch}", 2))
    for number in range(JOBS):
        add(client, job=f"job-{number}", batch=f"batch-{number // 2}")
    dead = {f"job-{number}" for number in range(0, JOBS, 5)}
    while read := one.read(100):
        begun = one.begin(read)
        one.finish([(each, DEAD if each.job_id in dead else DONE) for each in begun])
    assert MAXLEN <= client.xlen("emo:results") <= MOST
    assert MAXLEN <= client.xlen("emo:batches") <= MOST
    ((_, newest),) = client.xrevrange("emo:results", count=1)
    assert newest[b"job"] == f"job-{JOBS - 1}".encode()
    assert {fields[b"_job"].decode() for _, fields in client.xrange("emo:dead")} == dead
    assert [event["job"] for event in told(client)] == [f"job-{number}" for number in range(JOBS)]


def test_the_refused_rows_of_a_bulk_are_cut(client: Any, keys: Keys) -> None:
    """The newest thousand are kept, whatever came in one page, and as long as the bulk itself."""
    begun_ms = now_ms(client)
    bulks = Bulks(client, keys)
    bulks.create("b", Lane.BULK, {"prefix": ""}, {})
    rows = [f"row-{number}" for number in range(2100)]
    for first, last in ((0, 600), (600, 1100), (1100, 2100)):
        assert bulks.change("b", [BulkStatus.RUNNING], refused_rows=rows[first:last])
        assert bulks.refused("b", 5000) == rows[max(0, last - 1000) : last][::-1]
    assert client.pttl("emo:bulk-refused:b") == -1
    assert bulks.change("b", [BulkStatus.RUNNING], status=BulkStatus.DONE)
    for key in ("emo:bulk:b", "emo:bulk-refused:b"):
        assert lives_for(client, key, WEEK_MS, begun_ms)
