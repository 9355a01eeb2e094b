"""A witness over HTTP: two routes, nothing else.

Zone: whoever is not the log's host. May import: `orchestrator.audit.witness`, `starlette`, `structlog`, `uvicorn`.
"""

from __future__ import annotations

import socket
from http import HTTPStatus
from pathlib import Path

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.audit import witness
from orchestrator.audit.witness import MAX_REQUEST_BYTES, TEXT_TYPE, Witness

_MAX_CONNECTIONS = 64


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


class WitnessServer(uvicorn.Server):
    """The witness's process. `run()` serves until SIGTERM or SIGINT; `tls` are certificate and key, PEM files."""

    def __init__(self, judge: Witness, host: str, port: int, tls: tuple[Path, Path] | None = None) -> None:
        settings = uvicorn.Config(
            witness_app(judge),
            host=host,
            port=port,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=1,
            ssl_certfile=tls[0] if tls else None,
            ssl_keyfile=tls[1] if tls else None,
        )
        super().__init__(settings)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        structlog.get_logger("witness").info("serving", url=self.url)

    @property
    def url(self) -> str:
        """Where it serves, once it does; the port is the real one."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        scheme = "https" if self.config.is_ssl else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _answer(response: witness.Response) -> Response:
    headers = {"cache-control": "no-store", "content-type": response.type or TEXT_TYPE}
    return Response(response.body, int(response.status), headers)
