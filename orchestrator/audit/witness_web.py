"""A witness over HTTP: two routes, nothing else.

Zone: whoever is not the log's host. May import: `orchestrator.audit.witness`, `starlette`.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.audit import witness
from orchestrator.audit.witness import MAX_REQUEST_BYTES, TEXT_TYPE, Witness


def witness_app(judge: Witness) -> Starlette:
    """`POST /add-checkpoint` and `GET /<origin hash>/checkpoint`."""

    async def add_checkpoint(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_REQUEST_BYTES:
                return _answer(witness.Response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long\n"))
        return _answer(await run_in_threadpool(judge.add_checkpoint, body))

    async def checkpoint(request: Request) -> Response:
        return _answer(await run_in_threadpool(judge.checkpoint, str(request.path_params["name"])))

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{name}/checkpoint", checkpoint, methods=["GET"]),
        ]
    )


def _answer(response: witness.Response) -> Response:
    headers = {"cache-control": "no-store", "content-type": response.type or TEXT_TYPE}
    return Response(response.body, int(response.status), headers)
