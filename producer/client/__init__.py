"""A client of the queue, for threads and for event loops; the commands use it too.

    with Client("redis://localhost") as client:
        submitted = client.submit("calls/a.wav")
        for result in client.wait([submitted.job_id]):
            print(result.label, result.scores)

Both kinds carry out the same steps; see docs/clients.md.
"""

from producer.client.asked import Contract, new_job
from producer.client.event_loop import AsyncBatch, AsyncClient
from producer.client.threads import Batch, Client
from producer.results import Event, Result, UnreadableResult
from storage.errors import InvalidJob
from storage.queue.batches import BatchGone, BatchState, BatchStatus, Failure, WrongTotal
from storage.queue.cancellation import Cancelled
from storage.queue.submission import BacklogFull, Submitted
from storage.queue.workers import Fleet, Gpu, Worker
from storage.redis.connection import RedisError, UnfitServer
from storage.wire.messages import Job, Lane, Status

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "BacklogFull",
    "Batch",
    "BatchGone",
    "BatchState",
    "BatchStatus",
    "Cancelled",
    "Client",
    "Contract",
    "Event",
    "Failure",
    "Fleet",
    "Gpu",
    "InvalidJob",
    "Job",
    "Lane",
    "RedisError",
    "Result",
    "Status",
    "Submitted",
    "UnfitServer",
    "UnreadableResult",
    "Worker",
    "WrongTotal",
    "new_job",
]
