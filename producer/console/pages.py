"""The pages themselves, what they are told of the console, and the login."""

from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from producer.console.backend import backend_of, body_of, redis_cli, text_in, told
from producer.console.guard import refused
from producer.console.sessions import COOKIE, LIFETIME_SECONDS, Attempts, Sessions
from storage.objects.local_files import AUDIO_SUFFIXES
from storage.objects.transfers import PART_BYTES

STATIC = Path(__file__).parent / "static"


class Files(StaticFiles):
    """Files that a browser asks for again each time, and gets only where they have changed."""

    def file_response(self, *args: object, **options: object) -> Response:
        """See `StaticFiles`."""
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers["cache-control"] = "no-cache"
        return response


def routes(sessions: Sessions | None) -> list[Route | Mount]:
    """Those of pages, and of the login where there is one."""
    login = Login(sessions)
    return [
        Route("/", page, methods=["GET"]),
        Route("/livez", alive, methods=["GET"]),
        Route("/api/about", about, methods=["GET"]),
        Route("/api/login", login.enter, methods=["POST"]),
        Route("/api/logout", login.leave, methods=["POST"]),
        Mount("/static", Files(directory=STATIC)),
    ]


def page(_: Request) -> Response:
    """The one page there is."""
    return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})


def alive(_: Request) -> Response:
    """For whoever asks whether the console runs."""
    return PlainTextResponse("ok\n")


def about(request: Request) -> Response:
    """What a page may do here, and the limits."""
    backend = backend_of(request)
    settings = backend.settings
    return told(
        {
            "write": settings.console_write,
            "login": bool(settings.console_password.get_secret_value()),
            "max_file_bytes": int(settings.console_max_file_bytes),
            "max_files": settings.console_max_files,
            "part_bytes": PART_BYTES,
            "suffixes": sorted(AUDIO_SUFFIXES),
            "redis_cli": redis_cli(settings),
            "prefix": settings.prefix,
            "corrections": f"{settings.output_store or settings.store}/{settings.output_prefix}",
        }
    )


class Login:
    """Takes a password for a cookie."""

    def __init__(self, sessions: Sessions | None) -> None:
        self._sessions = sessions
        self._attempts = Attempts()

    async def enter(self, request: Request) -> Response:
        """Set the cookie, where the password is right."""
        address = request.client.host if request.client else ""
        if self._sessions is None:
            return told({"ok": True})
        # Before it is looked who has to wait: many could come at once, each with the first try.
        password = text_in(await body_of(request), "password")
        if (wait := self._attempts.wait_seconds(address)) > 0:
            seconds = str(round(wait) + 1)
            answer = refused(
                HTTPStatus.TOO_MANY_REQUESTS, "too_many", "too many tries", seconds=int(seconds)
            )
            answer.headers["retry-after"] = seconds
            return answer
        if not self._sessions.matches(password):
            self._attempts.failed(address)
            return refused(HTTPStatus.FORBIDDEN, "wrong_password", "that is not the password")
        answer = told({"ok": True})
        answer.set_cookie(
            COOKIE,
            self._sessions.issue(),
            max_age=LIFETIME_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def leave(self, _: Request) -> Response:
        """Have the browser forget the cookie."""
        answer = told({"ok": True})
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer
