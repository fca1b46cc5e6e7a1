"""Whether a server keeps what it is given, as far as it tells."""

import redis


def weaknesses(client: redis.Redis) -> list[str]:
    """Why this server may lose jobs that it confirmed, each with what to do; often empty.

    Asked of INFO: CONFIG GET is refused by hosted servers, and to users with few rights.
    """
    memory, persistence = client.info("memory"), client.info("persistence")
    found = []
    policy = memory.get("maxmemory_policy")
    if policy is None:
        found.append("it does not tell its maxmemory-policy: ask who runs it for noeviction")
    elif policy != "noeviction":
        found.append(
            f"its maxmemory-policy is {policy}: when full, it throws jobs away; set noeviction"
        )
    if "aof_enabled" not in persistence:
        found.append("it does not tell whether it has an append-only file: ask who runs it for one")
    elif not int(persistence["aof_enabled"]):
        found.append("it has no append-only file: a restart loses jobs; set appendonly yes")
    return found
