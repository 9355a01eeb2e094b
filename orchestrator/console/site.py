"""What every page needs, and how a page becomes an answer.

Zone: host. May import: `jinja2`, `starlette`, `orchestrator.{bus,events,fold,launch}`, `orchestrator.console`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from orchestrator.bus import Histories
from orchestrator.console import wording
from orchestrator.console.index import Index
from orchestrator.console.ledger import Ledger
from orchestrator.console.live import News
from orchestrator.console.oidc import OidcLogin
from orchestrator.console.orders import Orders
from orchestrator.console.roles import NOBODY, Identity, Role
from orchestrator.console.sessions import Sessions, Token
from orchestrator.lifecycle import LAUNCH_STATES

FOLDER: Final = Path(__file__).parent
PAGES: Final = (
    ("/launches", "Launches"),
    ("/audit", "Audit"),
    ("/nodes", "Nodes"),
    ("/policies", "Policies"),
    ("/help", "Help"),
)
"""The main navigation, in order."""


@dataclass(frozen=True, slots=True)
class Site:
    """The parts behind the pages. `connected` says whether the bus is there now; `secure`, whether we speak TLS;
    without `orders` nobody can give any.
    """

    index: Index
    news: News
    histories: Histories
    tokens: Mapping[Role, Token]
    sessions: Sessions
    connected: Callable[[], bool]
    secure: bool
    ledger: Ledger
    oidc: OidcLogin | None = None
    orders: Orders | None = None

    @classmethod
    def of(cls, request: Request) -> Site:
        """The site that a request came to."""
        site = request.app.state.site
        assert isinstance(site, Site)  # noqa: S101 - `app.make` put it there
        return site

    def page(self, request: Request, template: str, status: int = 200, **told: object) -> HTMLResponse:
        """`templates/<template>` filled with `told`, for whoever asks."""
        identity = getattr(request.state, "identity", NOBODY)
        path = request.url.path
        html = _ENVIRONMENT.get_template(template).render(
            identity=identity if isinstance(identity, Identity) else NOBODY,
            pages=PAGES,
            here=next((address for address, _ in PAGES if path.startswith(address)), ""),
            connected=self.connected(),
            index=self.index,
            now_ns=time.time_ns(),
            **told,
        )
        return HTMLResponse(html, status)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = ("ago", "clock", "counted", "duration", "instant", "machine_time", "percent", "rate", "short", "size")
    environment.filters.update({name: getattr(wording, name) for name in (*words, "sentence")})
    environment.globals.update(launch_states=LAUNCH_STATES)
    return environment


_ENVIRONMENT: Final = _environment()
