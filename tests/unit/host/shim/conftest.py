from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.simulators.ttrpc_client import Client
from workers.host.shim.ttrpc.server import Method, Server


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="ecc-") as folder:
        yield Path(folder)


@pytest.fixture
async def serve(short: Path) -> AsyncIterator[Callable[[Mapping[str, Method]], str]]:
    """Serve methods at a socket; the address of it."""
    with contextlib.suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as tasks:

            def serving(methods: Mapping[str, Method], name: str = "server.sock") -> str:
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(str(short / name))
                listener.listen(8)
                running.append(tasks.create_task(Server(listener, methods).run()))
                return f"unix://{short / name}"

            running: list[asyncio.Task[None]] = []
            yield serving
            for task in running:
                task.cancel()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[str], Client]]:
    """Clients that are closed afterwards."""
    async with contextlib.AsyncExitStack() as stack:

        async def connected(address: str) -> Client:
            return await stack.enter_async_context(Client(address))

        yield connected


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """Make a bundle as the CRI does; annotations without their prefix."""

    def made(id_: str, **annotations: str) -> Path:
        path = tmp_path / id_
        path.mkdir()
        document = {
            "ociVersion": "1.0.2",
            "process": {"args": ["/bin/true"], "cwd": "/"},
            "annotations": {f"io.kubernetes.cri.{k.replace('_', '-')}": v for k, v in annotations.items()},
        }
        (path / "config.json").write_text(json.dumps(document))
        return path

    return made
