"""Whether a server keeps what it is given, as far as it tells.

Asked of INFO: CONFIG GET is refused by hosted servers, and to users with few rights.
"""

from collections.abc import Mapping
from typing import Any

import redis


def weaknesses(client: redis.Redis) -> list[str]:
    """Why this server may lose jobs that it confirmed, each with what to do; often empty."""
    found = (eviction(client.info("memory")), forgetting(client.info("persistence")))
    return [why for why in found if why]


def eviction(memory: Mapping[str, Any]) -> str | None:
    """What is wrong with its maxmemory policy, by what it says of its memory."""
    policy = memory.get("maxmemory_policy")
    if policy is None:
        return "it does not tell its maxmemory-policy: ask who runs it for noeviction"
    if policy != "noeviction":
        return f"its maxmemory-policy is {policy}: when full, it throws jobs away; set noeviction"
    return None


def forgetting(persistence: Mapping[str, Any]) -> str | None:
    """Why a restart loses jobs, by what it says of its persistence."""
    if "aof_enabled" not in persistence:
        return "it does not tell whether it has an append-only file: ask who runs it for one"
    if not int(persistence["aof_enabled"]):
        return "it has no append-only file: a restart loses jobs; set appendonly yes"
    return None
