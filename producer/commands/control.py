"""`control`: bulks and webhooks, carried out until it is told to end."""

from producer.control.settings import ControlSettings
from producer.program import EXIT_SETTINGS, configure_logs, fail
from storage.redis.connection import RedisError, UnfitServer
from storage.settings import InvalidSettings, load


def control() -> None:
    """Send bulks and webhooks, until SIGTERM. One is enough; more share the work."""
    try:
        settings = load(ControlSettings, required=("redis_url",))
    except InvalidSettings as error:
        fail(*error.problems, status=EXIT_SETTINGS)
    configure_logs(ControlSettings, settings.log_level)
    from producer.control import program  # noqa: PLC0415 (rq takes 0.2 s to import, and is its own)

    try:
        program.check(settings)
    except (RedisError, UnfitServer) as error:
        fail(str(error))
    program.run(settings)
