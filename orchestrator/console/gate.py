"""Nobody comes further than the doors without a session, and nobody sends a form from elsewhere.

Zone: host. May import: `starlette`, `orchestrator.console.{roles,sessions}`.

It stands before the routes and lets through what `open_to_all` names, so a page that is added later is closed until
somebody decides otherwise.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.console.roles import Role
from orchestrator.console.sessions import LIFETIME, Sessions

COOKIE: Final = "enclave_cc_console"


class Gate:
    """Puts the `Identity` of whoever asks into the request's state, or sends them to the doors."""

    def __init__(self, app: ASGIApp, sessions: Sessions, open_to_all: frozenset[str]) -> None:
        self._app = app
        self._sessions = sessions
        self._open = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            request = Request(scope)
            identity = self._sessions.who(request.cookies.get(COOKIE, ""))
            request.state.identity = identity
            refusal = self._refuse(request, identity.role)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refuse(self, request: Request, role: Role) -> Response | None:
        if request.method not in {"GET", "HEAD"} and not _same_origin(request):
            return PlainTextResponse("this form was not sent from this console\n", 403)
        path = request.url.path
        if role is not Role.NOBODY or path in self._open or path.startswith("/static/"):
            return None
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse("sign in first\n", 401)
        return RedirectResponse(f"/login?next={quote(_local(request.url), safe='')}", 303)


def admit(response: Response, cookie: str, *, secure: bool) -> None:
    """Give whoever gets this response a session. The cookie goes to this site only, and to no script."""
    response.set_cookie(COOKIE, cookie, max_age=LIFETIME, secure=secure, httponly=True, samesite="strict")


def dismiss(response: Response, *, secure: bool) -> None:
    """Take the session back."""
    response.delete_cookie(COOKIE, secure=secure, httponly=True, samesite="strict")


def local_address(text: str) -> str:
    """`text` if it is a path of this site, else the first page: nobody may be sent away by a link to our login."""
    parts = urlsplit(text)
    safe = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.netloc and text.isprintable()
    return text if safe and "\\" not in text else "/launches"


def _local(url: URL) -> str:
    return url.path + (f"?{url.query}" if url.query else "")


def _same_origin(request: Request) -> bool:
    """By what the browser says of itself. A client that says nothing is no browser, and has no cookie to misuse."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
