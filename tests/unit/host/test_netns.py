"""Sockets made in a pod's network namespace by a process that stays in its own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.host.netns import listen_in


@pytest.fixture
def netns() -> Iterator[str]:
    """A network namespace with its loopback up."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_the_socket_is_the_namespaces_and_the_process_stays_where_it_was(netns: str) -> None:
    before = Path("/proc/self/ns/net").readlink()
    with listen_in(netns, "127.0.0.1", 61440) as listener:
        assert Path("/proc/self/ns/net").readlink() == before
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.getsockname(), 1)
        asked = "import socket; socket.create_connection(('127.0.0.1', 61440), 5)"
        name = Path(netns).name
        subprocess.run(["ip", "netns", "exec", name, "python3", "-c", asked], check=True, timeout=30)


async def test_what_asyncio_accepts_there_sends_small_messages_at_once() -> None:
    undelayed = asyncio.Event()

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY):
            undelayed.set()
        writer.close()

    listener = listen_in("/proc/self/ns/net", "127.0.0.1", 0)
    async with await asyncio.start_server(accepted, sock=listener), asyncio.timeout(5):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        await undelayed.wait()
        writer.close()


def test_a_namespace_that_is_gone_and_a_port_that_is_taken_are_oserrors(netns: str) -> None:
    with pytest.raises(FileNotFoundError):
        listen_in(f"{netns}-gone", "127.0.0.1", 61440)
    with listen_in(netns, "127.0.0.1", 61440), pytest.raises(OSError, match="in use"):
        listen_in(netns, "127.0.0.1", 61440)
