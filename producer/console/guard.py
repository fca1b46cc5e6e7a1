"""What stands in front of every request: the host it names, the page it comes from, the login."""

from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.console.sessions import COOKIE, Sessions
from producer.console.settings import ConsoleSettings, is_loopback

# Nothing may be fetched from, sent to or framed by any other host; and no script stands in a page.
POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:"),
        *("media-src 'self' blob:", "connect-src 'self'", "font-src 'self'"),
        *("manifest-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"),
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_SAFE = {"GET", "HEAD"}
_OUR_HEADER = "x-emostream"  # another site's page cannot send it without asking first
_PROBED = "/livez"  # by whatever address the probe has, and it tells nothing
_FREE_PATHS = {_PROBED, "/api/login"}  # before a login; and what the login page is made of
_FREE_FILES = "/static/"
_LOGIN_PATHS = {"/api/login", "/api/logout"}


class Guard:
    """An ASGI application in front of another."""

    def __init__(self, app: ASGIApp, settings: ConsoleSettings, sessions: Sessions | None) -> None:
        """`sessions` is None where nobody has to log in."""
        self._app = app
        self._sessions = sessions
        self._write = settings.console_write
        named = {name.strip().lower() for name in settings.console_hosts.split(",")} - {""}
        self._hosts = {settings.host.lower(), *named}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have it answered."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        answer = self._refusal(scope) or self._app
        await answer(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        host = headers.get("host", "")
        if path != _PROBED and not self._is_ours(host):
            return refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                "wrong_host",
                f"this console is not called {host[:80]!r}: name it in EMO_CONSOLE_HOSTS, or set "
                "EMO_CONSOLE_PASSWORD",
            )
        if method not in _SAFE and not _same_origin(headers, host):
            return refused(
                HTTPStatus.FORBIDDEN, "wrong_origin", "another site's page may change nothing here"
            )
        asked_for = self._sessions is not None and not self._is_free(path)
        if asked_for and self._sessions and not self._sessions.holds(_cookie(headers)):
            return _ask_to_log_in(path)
        if method not in _SAFE and path not in _LOGIN_PATHS and not self._write:
            return refused(
                HTTPStatus.FORBIDDEN,
                "read_only",
                "this console only shows: start it with --write, or EMO_CONSOLE_WRITE=true",
            )
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a page of that name is ours; else a foreign name may have been led here."""
        name = _hostname(host)
        known = self._sessions is not None or name in self._hosts or is_loopback(name)
        return bool(name) and known

    @staticmethod
    def _is_free(path: str) -> bool:
        return path in _FREE_PATHS or path.startswith(_FREE_FILES)


def refused(status: HTTPStatus, code: str, message: str, **more: Any) -> JSONResponse:
    """An answer that says why not."""
    return JSONResponse({"error": code, "message": message, **more}, status)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same_origin(headers: Headers, host: str) -> bool:
    if _OUR_HEADER not in headers:
        return False
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    try:
        origin = urlsplit(headers.get("origin", f"//{host}"))
    except ValueError:
        return False
    return origin.netloc.lower() == host.lower()


def _cookie(headers: Headers) -> str:
    """Ours; the standard library's parser takes none where another program's is odd."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def _ask_to_log_in(path: str) -> Response:
    if path == "/":
        from producer.console.pages import STATIC  # noqa: PLC0415 (it imports what this guards)

        return FileResponse(STATIC / "login.html", headers={"cache-control": "no-store"})
    return refused(HTTPStatus.UNAUTHORIZED, "login", "log in first")
