"""The routes, and what stands before them.

Zone: host. May import: `starlette`, `orchestrator.faults`, `orchestrator.console`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from orchestrator.console.gate import Gate
from orchestrator.console.headers import SecurityHeaders
from orchestrator.console.pages import (
    audit,
    doors,
    export,
    guide,
    launch,
    launches,
    listening,
    nodes,
    ordering,
    policies,
    replay,
)
from orchestrator.console.roles import Identity, Role
from orchestrator.console.site import FOLDER, Site
from orchestrator.faults import Code, Fault, Temporary


async def _first(_: Request) -> Response:
    return RedirectResponse("/launches", 303)


async def _ready(request: Request) -> Response:
    """For a supervisor: 200 once every history up to now was read."""
    caught_up = Site.of(request).index.caught_up
    return PlainTextResponse("ready\n" if caught_up else "reading the histories\n", 200 if caught_up else 503)


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Page:
    """An address, what answers there, and the least role that may ask."""

    path: str
    answer: Handler
    role: Role = Role.READER
    method: str = "GET"

    def route(self) -> Route:
        """With the role checked before the handler runs."""

        async def guarded(request: Request) -> Response:
            identity = request.state.identity
            if not isinstance(identity, Identity) or identity.role < self.role:
                raise HTTPException(403, "Your role does not allow this.")
            return await self.answer(request)

        return Route(self.path, guarded, methods=[self.method])


PAGES: Final = (
    Page("/", _first),
    Page("/launches", launches.show),
    Page("/launches/{pod}", launch.show),
    Page("/launches/{pod}/replay", replay.show),
    Page("/launches/{pod}/resume", ordering.resume, Role.OPERATOR, "POST"),
    Page("/launches/{pod}/stop", ordering.stop, Role.OPERATOR, "POST"),
    Page("/launches/{pod}/proof", audit.download_launch),
    Page("/launches/{pod}/export", export.download),
    Page("/audit", audit.show),
    Page("/audit/{index}", audit.show_entry),
    Page("/audit/{index}/leaf", audit.download_entry),
    Page("/audit/{index}/proof", audit.download_proof),
    Page("/nodes", nodes.show),
    Page("/policies", policies.show),
    Page("/help", guide.show),
    Page("/live", listening.listen),
    Page("/login", doors.ask, Role.NOBODY),
    Page("/login", doors.enter, Role.NOBODY, "POST"),
    Page("/login/oidc", doors.leave_for_provider, Role.NOBODY),
    Page("/login/oidc/callback", doors.return_from_provider, Role.NOBODY),
    Page("/logout", doors.leave, Role.NOBODY, "POST"),
    Page("/ready", _ready, Role.NOBODY),
)
"""Every address but the static files. What changes more than the asker's own session is an operator's."""

_STATUS: Final = {Code.NOT_FOUND: 404, Code.INPUT: 400, Code.NOT_ALLOWED: 403, Code.REPLAY_RESUME: 409}


async def _refused(request: Request, error: Exception) -> Response:
    """A path that is nobody's, a method that is not allowed."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = error.detail if isinstance(error, HTTPException) else ""
    return Site.of(request).page(request, "refused.html", status, code=status, said=said)


async def _fault(request: Request, error: Exception) -> Response:
    """An expected failure, told as everywhere else: what happened, expected, got, what to try."""
    assert isinstance(error, Fault)  # noqa: S101 - registered for faults only
    status = 503 if isinstance(error, Temporary) else _STATUS.get(error.code, 500)
    return Site.of(request).page(request, "fault.html", status, diagnosis=error.diagnosis)


def make(site: Site, hosts: tuple[str, ...]) -> Starlette:
    """The application. `hosts` are the names by which browsers may call it: any other name is somebody else's page
    that was made to point here.
    """
    app = Starlette(
        routes=[*(page.route() for page in PAGES), Mount("/static", StaticFiles(directory=FOLDER / "static"))],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(
                Gate,
                sessions=site.sessions,
                open_to_all=frozenset(page.path for page in PAGES if page.role is Role.NOBODY),
            ),
        ],
        exception_handlers={HTTPException: _refused, Fault: _fault},
    )
    app.state.site = site
    return app
