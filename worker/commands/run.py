"""`run`: the worker itself."""

import os
import sys
from contextlib import suppress

from storage.errors import JobError
from worker.audio.confinement import hide_memory
from worker.commands.program import (
    ASK_THE_DOCTOR,
    EXIT_FAILED,
    configure_logs,
    drain_on_signals,
    fail,
    heavy_imports,
    libraries,
    load_settings,
    open_engine,
    require_spool,
)
from worker.pipeline.capacity import raise_limit


def run() -> None:
    """Take jobs from Redis until SIGTERM."""
    hide_memory()  # decode processes run as the same user
    settings = load_settings(required=("redis_url", "store"))
    configure_logs(settings.log_level)
    require_spool(settings)
    raise_limit()
    # The light commands start fast: what is heavy is imported by those that need it, when they do.
    from storage.redis.connection import RedisError, UnfitServer  # noqa: PLC0415
    from storage.serving.metrics_server import listen  # noqa: PLC0415
    from worker.stores import check_services  # noqa: PLC0415

    try:
        if settings.metrics_address:
            listen(settings.metrics_address, "EMO_METRICS_ADDRESS").close()
        check_services(settings)
    except (RedisError, UnfitServer) as error:
        fail(f"EMO_REDIS_URL: {error}", ASK_THE_DOCTOR)
    except JobError as error:
        fail(str(error), ASK_THE_DOCTOR)
    except OSError as error:
        fail(f"cannot start: {error}", ASK_THE_DOCTOR)
    with libraries(), heavy_imports():
        from worker.app import Stop, Worker  # noqa: PLC0415
    try:
        worker = Worker(settings, open_engine(settings))
        drain_on_signals(worker)
        reason = worker.run()
    except (RedisError, JobError, OSError) as error:
        fail(f"cannot start: {error}", ASK_THE_DOCTOR)
    # Stage threads are daemons, and one may still be deep in native code: do not wait for it.
    with suppress(OSError):  # a full disk is no reason to end as if it had failed
        sys.stderr.flush()
    os._exit(0 if reason is Stop.ASKED else EXIT_FAILED)
