"""The scripts in `lua/`, each a step of the protocol that Redis does whole or not at all."""

from pathlib import Path

import redis
from redis.commands.core import Script

_LUA = Path(__file__).parent / "lua"


def script_text(name: str) -> str:
    """The script of that name, with the prelude in front."""
    return (_LUA / "prelude.lua").read_text() + (_LUA / f"{name}.lua").read_text()


def load_script(client: redis.Redis, name: str) -> Script:
    """The same, to be called."""
    return client.register_script(script_text(name))
