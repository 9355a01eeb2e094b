"""The serving end in asyncio: each request of each connection is a task; replies go out as they are ready.

For who runs asyncio anyway: a node's worker, and tests. A pod's shim serves by `loop_server`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from socket import socket
from typing import Final

import structlog

from orchestrator.faults import Diagnosis
from workers.host.shim.ttrpc.answers import Method, reply
from workers.host.shim.ttrpc.frame import REQUEST, Decoder, Frame

__all__ = ["Method", "Server", "converse"]
_CHUNK: Final = 1 << 16
_log = structlog.get_logger()


class Server:
    """Serves `methods`, named `package.Service/Method`, to everyone who can connect to `listener`.

    A closed connection cancels nothing: what was asked is done, only the reply is dropped.
    """

    def __init__(self, listener: socket, methods: Mapping[str, Method]) -> None:
        """`listener` must be bound and listening; who may connect is the file system's business."""
        self._listener = listener
        self._methods = methods

    async def run(self) -> None:
        """Serve until cancelled; running calls are then cancelled too."""
        async with asyncio.TaskGroup() as tasks:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tasks.create_task(converse(reader, writer, self._methods, tasks))

            server = await asyncio.start_unix_server(connected, sock=self._listener, limit=_CHUNK)
            async with server:
                await server.serve_forever()


async def converse(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    methods: Mapping[str, Method],
    tasks: asyncio.TaskGroup,
) -> None:
    """Answer one connection's requests, each in a task of `tasks`, until its other end closes it."""
    decoder = Decoder()
    try:
        while received := await reader.read(_CHUNK):
            for frame in decoder.feed(received):
                if frame.kind == REQUEST:
                    tasks.create_task(_reply(frame, writer, methods))
            await writer.drain()  # who does not read answers is not read from either
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _reply(frame: Frame, writer: asyncio.StreamWriter, methods: Mapping[str, Method]) -> None:
    response = await reply(frame, methods, asyncio.timeout, _tell)
    if not writer.is_closing():
        writer.write(response)
        with contextlib.suppress(ConnectionError):
            await writer.drain()


def _tell(what: str, method: str, why: Diagnosis | BaseException) -> None:
    if isinstance(why, Diagnosis):
        _log.info(what, method=method, diagnosis=str(why))
    else:
        _log.error(what, method=method, exc_info=why)
