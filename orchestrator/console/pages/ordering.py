"""Orders from a launch's page: resume what is held, stop what goes on.

Zone: host. May import: `starlette`, `structlog`, `orchestrator.faults`, `orchestrator.console`.

Who may is the gate's and the route's to say; that the form came from our own page, the gate's.
"""

from __future__ import annotations

from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from orchestrator.console.orders import Orders
from orchestrator.console.pages.form import read_form
from orchestrator.console.site import Site
from orchestrator.faults import Code, Permanent

LONGEST_REASON: Final = 500
_log = structlog.get_logger()


async def resume(request: Request) -> Response:
    """POST /launches/POD/resume: `container` (an id, or empty for the pod) and `reason`."""
    orders, form = _orders(request), await _fields(request)
    pod, container = request.path_params["pod"], form.get("container", "")
    await orders.resume(pod, container, request.state.identity, _reason(form))
    return await _ordered(request, "resume")


async def stop(request: Request) -> Response:
    """POST /launches/POD/stop: `reason`."""
    orders, form = _orders(request), await _fields(request)
    await orders.stop(request.path_params["pod"], request.state.identity, _reason(form))
    return await _ordered(request, "stop")


def _orders(request: Request) -> Orders:
    orders = Site.of(request).orders
    if orders is None:
        raise HTTPException(403, "This console gives no orders.")
    return orders


async def _fields(request: Request) -> dict[str, str]:
    form = await read_form(request)
    if form is None:
        raise HTTPException(413, "That form is too long.")
    return {name: values[0] for name, values in form.items()}


def _reason(form: dict[str, str]) -> str:
    reason = form.get("reason", "").strip()
    if 0 < len(reason) <= LONGEST_REASON:
        return reason
    raise Permanent(
        Code.INPUT,
        "an order needs a reason, for whoever reads the history later",
        expected=f"1 to {LONGEST_REASON} characters",
        got=f"{len(reason)} characters",
        advice="go back and say why",
    )


async def _ordered(request: Request, what: str) -> Response:
    pod, identity = request.path_params["pod"], request.state.identity
    await _log.ainfo("order", what=what, pod=pod, by=identity.name, door=identity.door)
    return RedirectResponse(f"/launches/{pod}", 303)
