"""How many webhooks wait to be delivered."""

import redis
from redis.exceptions import ResponseError

from storage.wire.messages import Keys


def webhooks_waiting(client: redis.Redis, keys: Keys) -> int:
    """Those in the stream; 0 where there is none. Raises RedisError."""
    try:
        return int(client.xlen(keys.webhooks))
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return 0
