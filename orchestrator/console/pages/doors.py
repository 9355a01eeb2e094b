"""Entering and leaving: by the local token, or by an OpenID provider.

Zone: host. May import: `starlette`, `structlog`, `orchestrator.faults`, `orchestrator.console`.
"""

from __future__ import annotations

from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from orchestrator.console.gate import admit, dismiss, local_address
from orchestrator.console.oidc import OidcLogin
from orchestrator.console.pages.form import read_form
from orchestrator.console.roles import Identity
from orchestrator.console.site import Site
from orchestrator.faults import Fault

_ERRAND: Final = "enclave_cc_oidc"
_log = structlog.get_logger()


async def ask(request: Request) -> Response:
    """GET /login: the form."""
    return _form(request, request.query_params.get("next", ""))


async def enter(request: Request) -> Response:
    """POST /login: the token from the form's body, never from the address."""
    site = Site.of(request)
    form = await read_form(request)
    if form is None:
        return _form(request, "", "That is too long to be the token.", 413)
    token, next_ = form.get("token", [""])[0], form.get("next", [""])[0]
    client = request.client.host if request.client else ""
    role = max((role for role, known in site.tokens.items() if known.opens(token)), default=None)
    if role is None:
        await _log.awarning("login refused", door="token", client=client)
        return _form(request, next_, "That is not the token of this console.", 403)
    await _log.ainfo("login", door="token", client=client, role=role.name.lower())
    response = RedirectResponse(local_address(next_), 303)
    identity = Identity(f"local {role.name.lower()}", role, "token")
    admit(response, site.sessions.begin(identity), secure=site.secure)
    return response


async def leave(request: Request) -> Response:
    """POST /logout."""
    response = RedirectResponse("/login", 303)
    dismiss(response, secure=Site.of(request).secure)
    return response


async def leave_for_provider(request: Request) -> Response:
    """GET /login/oidc: to the provider, with the errand sealed in a short-lived cookie.

    That cookie is `lax`: coming back is a navigation from the provider's site, to which a strict one is not sent.
    """
    site, oidc = _oidc(request)
    address, errand = await oidc.begin(local_address(request.query_params.get("next", "")))
    response = RedirectResponse(address, 303)
    response.set_cookie(
        _ERRAND, errand, max_age=300, path="/login/oidc", secure=site.secure, httponly=True, samesite="lax"
    )
    return response


async def return_from_provider(request: Request) -> Response:
    """GET /login/oidc/callback: the code for an identity, the identity for a session.

    A page and not a redirect: what it leads to must be asked for by our own page, for the strict cookie to be sent.
    """
    site, oidc = _oidc(request)
    client = request.client.host if request.client else ""
    try:
        identity, next_ = await oidc.finish(str(request.url.query), request.cookies.get(_ERRAND, ""))
    except Fault as fault:
        await _log.awarning("login refused", door="oidc", client=client, diagnosis=fault.diagnostics())
        return _form(request, "", fault.diagnosis.message, 403)
    await _log.ainfo("login", door="oidc", client=client, name=identity.name)
    response = site.page(request, "entered.html", name=identity.name, next=next_)
    admit(response, site.sessions.begin(identity), secure=site.secure)
    response.delete_cookie(_ERRAND, path="/login/oidc", secure=site.secure, httponly=True, samesite="lax")
    return response


def _form(request: Request, next_: str, refusal: str = "", status: int = 200) -> Response:
    site = Site.of(request)
    told = {"next": local_address(next_), "refusal": refusal, "provider": site.oidc.name if site.oidc else ""}
    return site.page(request, "login.html", status, **told)


def _oidc(request: Request) -> tuple[Site, OidcLogin]:
    site = Site.of(request)
    if site.oidc is None:
        raise HTTPException(404, "No OpenID provider is set up.")
    return site, site.oidc
