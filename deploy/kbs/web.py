"""HTTP around `Api`: reads bounded requests, runs them in threads, writes replies in Trustee's shape.

Error bodies have no Content-Type, sessions are cookies, paths reach the dispatcher undecoded.
"""

from __future__ import annotations

import asyncio
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from deploy.kbs.api import Call
from schemas.kbs import MAX_RESOURCE_BYTES, PREFIX, SESSION_COOKIE

if TYPE_CHECKING:
    from starlette.requests import Request

    from deploy.kbs.api import Api

# Trustee's payload_request_size. A resource is sent as it is, so this bounds resources too.
MAX_BODY_BYTES: Final = MAX_RESOURCE_BYTES
_BODY_SECONDS: Final = 30
_METHODS: Final = ("GET", "POST", "PUT", "DELETE")


class _TooLarge(Exception):
    """The request's body is over the bound."""


def web_app(api: Api) -> Starlette:
    """The ASGI application: `/kbs/v0/...` and `/healthz`."""

    async def serve(request: Request) -> Response:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _body(request)
        except _TooLarge:
            return Response(status_code=413)
        except TimeoutError:
            return Response(status_code=408)
        answer = await run_in_threadpool(api.answer, _call(request, body))
        headers = {}
        if answer.content_type:
            headers["Content-Type"] = answer.content_type
        if answer.cookie:
            headers["Set-Cookie"] = answer.cookie
        return Response(answer.body, answer.status, headers)

    async def healthy(_request: Request) -> Response:
        return Response()

    app = Starlette(routes=[Route(PREFIX + "/{path:path}", serve, methods=list(_METHODS)), Route("/healthz", healthy)])
    app.router.redirect_slashes = False
    return app


def _call(request: Request, body: bytes) -> Call:
    raw_path: bytes = request.scope["raw_path"]
    return Call(
        method=request.method,
        path=raw_path.decode("latin-1"),
        query=request.scope["query_string"].decode("latin-1"),
        body=body,
        session=_session(request.headers.get("cookie", "")),
        authorization=request.headers.get("authorization"),
    )


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _TooLarge
    return bytes(body)


def _session(cookies: str) -> str | None:
    try:
        morsel = SimpleCookie(cookies).get(SESSION_COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None else None
