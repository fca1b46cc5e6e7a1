"""Who may look and who may act."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from producer.client import Client, new_job
from producer.console.sessions import Attempts, Sessions
from producer.console.settings import ConsoleSettings
from storage.redis.embedded import EmbeddedRedis
from tests.integration.producer.console.conftest import OURS, Open

PASSWORD = "a long enough one"
TOGETHER = 20


def test_nothing_may_come_from_another_host(console: Open) -> None:
    """The policy says so, of the page, its files and what it is told."""
    page = console()
    for path in ("/", "/static/app.js", "/api/about", "/nowhere"):
        policy = page.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "http" not in policy
        assert "unsafe" not in policy


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8642", "", "127.0.0.1.evil.example"]
)
def test_a_foreign_name_is_not_answered(host: str, console: Open) -> None:
    """Where nobody has to log in: a name that is led to this machine would be another's page.

    Nor where something in front asks: browsers may reach the console past it.
    """
    assert console().get("/api/live", headers={"host": host}).status_code == 421
    page = console(console_open=True, console_hosts="desk.example")
    assert page.get("/api/live", headers={"host": host}).status_code == 421


def test_a_probe_is_answered_by_any_name(console: Open) -> None:
    """It asks by an address that nobody knows beforehand, and is told nothing."""
    answer = console().get("/livez", headers={"host": "10.1.2.3:8642"})
    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.parametrize("host", ["localhost:1", "[::1]:8642", "127.0.0.1", "desk.example"])
def test_own_names_are_answered(host: str, console: Open) -> None:
    """This machine's, and those that were named."""
    for is_open in (False, True):
        page = console(console_hosts="desk.example", console_open=is_open)
        assert page.get("/api/about", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"x-emostream": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_page_changes_nothing(headers: dict[str, str], console: Open) -> None:
    """Whatever a browser lets it send."""
    page = console()
    if headers == {"x-emostream": ""}:
        del page.headers["x-emostream"]
        headers = {}
    answer = page.post("/api/lanes/normal", json={"paused": True}, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (403, "wrong_origin")


def test_it_only_shows_unless_it_may_write(console: Open) -> None:
    """Every route that changes something is closed."""
    page = console(console_write=False)
    assert page.get("/api/about").json()["write"] is False
    routes = [
        ("POST", "/api/uploads"),
        ("PUT", f"/api/uploads/a/{'a' * 32}/0"),
        ("DELETE", f"/api/uploads/a/{'a' * 32}"),
        ("POST", f"/api/uploads/a/{'a' * 32}/finish"),
        ("POST", "/api/batches/a/cancel"),
        ("POST", "/api/jobs/a/cancel"),
        ("POST", "/api/jobs/a/retry"),
        ("POST", "/api/jobs/a/correction"),
        ("POST", "/api/lanes/normal"),
        ("POST", "/api/dead/replay"),
        ("POST", "/api/retries/cancel"),
    ]
    for method, path in routes:
        answer = page.request(method, path)
        assert (answer.status_code, answer.json()["error"]) == (403, "read_only"), path
    for path in ("/api/live", "/api/batches/a", "/api/jobs?ids=a"):
        assert page.get(path).status_code == 200


def test_without_a_login_nothing_is_shown(console: Open) -> None:
    """But the page that asks for the password, and what it is made of."""
    page = console(console_password=PASSWORD, base_url="http://desk.example")
    for path in ("/api/about", "/api/live", "/api/jobs?ids=a", "/objects/a/peaks", "/nowhere"):
        assert page.get(path).status_code == 401, path
    assert page.post("/api/lanes/normal", json={"paused": True}).status_code == 401
    assert 'id="password"' in page.get("/?batch=a").text
    assert page.get("/livez").text == "ok\n"


def test_a_login_opens_it_until_the_logout(console: Open) -> None:
    """For the console that is started again as well."""
    page = console(console_password=PASSWORD)
    answer = page.post("/api/login", json={"password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert page.get("/api/about").status_code == 200
    anew = console(console_password=PASSWORD)
    anew.cookies.update(page.cookies)
    assert anew.get("/api/about").status_code == 200
    other = console(console_password="another password")
    other.cookies.update(page.cookies)
    assert other.get("/api/about").status_code == 401
    page.post("/api/logout")
    assert page.get("/api/about").status_code == 401


def test_wrong_passwords_are_counted(console: Open) -> None:
    """After five of them even the right one has to wait."""
    page = console(console_password=PASSWORD)
    for _ in range(5):
        assert page.post("/api/login", json={"password": "no"}).status_code == 403
    answer = page.post("/api/login", json={"password": PASSWORD})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 61


def test_attempts_are_forgotten_in_time_and_bounded() -> None:
    """A minute later; and whoever has a million addresses fills no memory."""
    now = [0.0]
    attempts = Attempts(lambda: now[0])
    for _ in range(5):
        attempts.failed("one")
    assert attempts.wait_seconds("one") == 60
    assert attempts.wait_seconds("two") == 0
    now[0] = 61.0
    assert attempts.wait_seconds("one") == 0
    for number in range(5000):
        attempts.failed(str(number))
    assert len(attempts._failed) <= 1000
    assert attempts.wait_seconds("a new one") > 0  # a hundred in a minute, from wherever


def test_cookies_cannot_be_made() -> None:
    """Nor changed, nor kept for ever."""
    now = [1000.0]
    sessions = Sessions(PASSWORD, salt="here", clock=lambda: now[0])
    cookie = sessions.issue()
    assert sessions.holds(cookie)
    expiry, nonce, signature = cookie.split(".")
    later = str(int(expiry) + 9)
    for wrong in ("", "..", f"{later}.{nonce}.{signature}", f"{expiry}.{nonce}.", "a.b.c", "é.b.c"):
        assert not sessions.holds(wrong)
    assert not Sessions(PASSWORD, salt="there", clock=lambda: now[0]).holds(cookie)
    now[0] += 12 * 3600 + 1
    assert not sessions.holds(cookie)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"console_address": "0.0.0.0:8642"}, "without a login"),
        ({"console_address": "desk.example:8642"}, "without a login"),
        ({"console_address": "nonsense:port"}, "write host:port"),
        ({"console_password": "short"}, "at least 8"),
        ({"console_proxies": "127.0.0.1, caddy.example"}, "EMO_CONSOLE_PROXIES: 'caddy.example'"),
    ],
)
def test_it_is_not_served_to_everybody_by_mistake(settings: dict[str, Any], says: str) -> None:
    """Other hosts need a password, or a proxy that asks for one."""
    with pytest.raises(ValidationError, match=says):
        ConsoleSettings(_env_file=None, **settings)
    if says == "without a login":
        assert ConsoleSettings(_env_file=None, console_open=True, **settings).console_open
        assert ConsoleSettings(_env_file=None, console_password=PASSWORD, **settings).port


def test_passwords_that_come_together_are_counted(console: Open) -> None:
    """They are not judged before those that were there first."""
    page = console(console_password=PASSWORD)

    async def ask_together() -> Sequence[httpx.Response]:
        begun, go = [], asyncio.Event()

        async def slowly(number: int) -> AsyncIterator[bytes]:
            yield b'{"password":'
            begun.append(number)
            if len(begun) == TOGETHER:
                go.set()
            await go.wait()
            yield b'"no"}'

        transport = httpx.ASGITransport(page.app)
        url = str(page.base_url)
        async with httpx.AsyncClient(transport=transport, base_url=url, headers=OURS) as many:
            asked = [many.post("/api/login", content=slowly(each)) for each in range(TOGETHER)]
            return await asyncio.gather(*asked)

    answers = asyncio.run(ask_together())
    assert Counter(answer.status_code for answer in answers) == {403: 5, 429: TOGETHER - 5}


def test_rights_that_are_missing_are_no_outage(
    console: Open, client: Any, redis_server: EmbeddedRedis
) -> None:
    """A page that is told so does not ask again, whether a command or a script needs them."""
    rights = "~* -@all +@read +@connection +@scripting +info +time +select"
    client.execute_command("ACL", "SETUSER", "looks", "on", ">hush", *rights.split())
    with Client(redis_server.url) as queue:
        queue.submit(new_job("a.wav", job="waits"))
    page = console(redis_url=redis_server.url.replace("redis://", "redis://looks:hush@"))
    assert page.get("/api/live").status_code == 200
    for path, asked in (("/api/lanes/bulk", {"paused": True}), ("/api/jobs/waits/cancel", {})):
        answer = page.post(path, json=asked)
        assert (answer.status_code, answer.json()["error"]) == (403, "redis_denied"), path
    client.execute_command("ACL", "DELUSER", "looks")
