"""The scripts in `lua/`, each a step of the protocol that Redis does whole or not at all."""

from pathlib import Path

import redis
from redis.commands.core import Script

SHARED = ("prelude", "batch", "ending")
_MORE = {"begin": ["handing"], "give_back": ["handing"]}  # what is for workers alone
_LUA = Path(__file__).parent / "lua"


def script_text(name: str) -> str:
    """The script of that name, with what all of them share in front."""
    parts = (*SHARED, *_MORE.get(name, ()), name)
    return "\n".join((_LUA / f"{part}.lua").read_text() for part in parts)


def load_script(client: redis.Redis, name: str) -> Script:
    """The same, to be called."""
    return client.register_script(script_text(name))
