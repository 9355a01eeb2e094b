"""What goes through a pod's door goes at once: a launch is a conversation of small messages."""

from __future__ import annotations

import asyncio
import socket

from workers.host.netns import listen_in


async def test_what_asyncio_accepts_at_a_door_does_not_wait_for_acknowledgements() -> None:
    undelayed = asyncio.Event()

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY):
            undelayed.set()
        writer.close()

    listener = listen_in("/proc/self/ns/net", "127.0.0.1", 0)
    async with await asyncio.start_server(accepted, sock=listener), asyncio.timeout(30):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        await undelayed.wait()
        writer.close()
