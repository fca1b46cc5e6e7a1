"""deploy/redis/*.acl, and a client for each of their users."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from storage.queue.streams import JobStreams
from storage.redis.connection import connect
from storage.wire.messages import Keys
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.redis_servers import OLDEST, SERVERS
from tests.support.stream_workers import new_streams

ROOT = Path(__file__).resolve().parents[2]
ACL_FILE = ROOT / "deploy" / "redis" / "users.acl"
SELECTORS_FILE = ACL_FILE.with_name("users-7.acl")  # with rights per command and key
GUARDS = [(server, ACL_FILE) for server in SERVERS]
# The oldest knows no selectors.
GUARDS += [(server, SELECTORS_FILE) for server in SERVERS if server != OLDEST]
PRODUCER, OPERATOR, WORKER, READER = "emo-producer", "emo-operator", "emo-worker", "emo-reader"
CONTROL, MONITOR = "emo-control", "emo-monitor"
USERS = (PRODUCER, OPERATOR, WORKER, READER, CONTROL, MONITOR)
KEYS = Keys("emo")


def password(user: str) -> str:
    """What the user logs in with, in these tests."""
    return f"secret of {user}/@:"


class Users:
    """A client for each user of one server."""

    def __init__(self, port: int, running: ExitStack) -> None:
        self.clients: dict[str, Any] = {}
        self._port = port
        for user in (*USERS, "admin"):
            client = connect(self.url(user), name=f"test-{user}", timeout_seconds=TIMEOUT_SECONDS)
            self.clients[user] = running.enter_context(client)

    def __getitem__(self, user: str) -> Any:
        """Any, since redis-py types a reply as every possible one."""
        return self.clients[user]

    def url(self, user: str) -> str:
        """Where that user logs in."""
        secret = password(user).replace("/", "%2F").replace("@", "%40").replace(":", "%3A")
        return f"redis://{user}:{secret}@127.0.0.1:{self._port}/0"

    def streams(self, user: str = WORKER, owner: str = "one") -> JobStreams:
        """A worker's side of the protocol, as that user."""
        return new_streams(JobStreams, self[user], KEYS, owner, 0.001)


def let_in(client: Any, user: str) -> str:
    """Make that user, with the rights of any server's file; the part of a URL that logs it in."""
    (line,) = [line for line in ACL_FILE.read_text().splitlines() if f"user {user} " in line]
    rights = [word for word in line.split()[2:] if not word.startswith("#")]
    client.execute_command("ACL", "SETUSER", user, "reset", *rights, ">secret")
    return f"://{user}:secret@"
