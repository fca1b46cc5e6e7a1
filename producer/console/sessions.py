"""Who is logged in: a signed cookie, and how often a password may be tried."""

import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable

LIFETIME_SECONDS = 12 * 3600
COOKIE = "emo_console"
_TRIES, _TRIES_SECONDS = 5, 60.0  # of one address
_ALL_TRIES = 100  # of all of them together
_MOST_ADDRESSES = 1000
_PARTS = 3  # of a cookie


class Sessions:
    """Cookies that nobody can make who does not know the password.

    They are signed with a key that is derived from it: a console that is started again knows them
    still, and one with another password does not.
    """

    def __init__(self, password: str, *, salt: str, clock: Callable[[], float] = time.time) -> None:
        """`salt` tells consoles apart that have the same password."""
        self._password = password.encode()
        self._clock = clock
        self._key = hashlib.scrypt(
            self._password, salt=f"emostream console {salt}".encode(), n=2**14, r=8, p=1
        )

    def matches(self, password: str) -> bool:
        """Whether it is the password, in the same time for every wrong one."""
        ours, theirs = (
            hmac.digest(self._key, text, "sha256") for text in (self._password, password.encode())
        )
        return hmac.compare_digest(ours, theirs)

    def issue(self) -> str:
        """A cookie's value."""
        told = f"{int(self._clock()) + LIFETIME_SECONDS}.{secrets.token_hex(16)}"
        return f"{told}.{self._signature(told)}"

    def holds(self, cookie: str) -> bool:
        """Whether it is one of ours, and has not expired."""
        told, _, signature = cookie.rpartition(".")
        if len(cookie.split(".")) != _PARTS or not cookie.isascii():
            return False
        if not hmac.compare_digest(signature, self._signature(told)):
            return False
        return int(told.partition(".")[0]) > self._clock()

    def _signature(self, told: str) -> str:
        return hmac.new(self._key, told.encode(), "sha256").hexdigest()


class Attempts:
    """Counts wrong passwords; what it holds is bounded. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[str, deque[float]] = {}
        self._all: deque[float] = deque(maxlen=_ALL_TRIES)

    def wait_seconds(self, address: str) -> float:
        """For how long that address may not try; 0 where it may."""
        own = self._failed.get(address, deque())
        held = [failed[0] for failed, most in ((own, _TRIES), (self._all, _ALL_TRIES))
                if len(failed) >= most]  # fmt: skip
        return max([0.0, *(at + _TRIES_SECONDS - self._clock() for at in held)])

    def failed(self, address: str) -> None:
        """Note a wrong password."""
        while len(self._failed) >= _MOST_ADDRESSES:
            self._failed.pop(next(iter(self._failed)))
        self._failed.setdefault(address, deque(maxlen=_TRIES)).append(self._clock())
        self._all.append(self._clock())
