"""containerd's FIFOs for a command's standard streams, opened so that neither end misses the other.

Zone: host. May import: the standard library. Peer: containerd/fifo; its CRI opens its ends as soon as ours are open.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Final

PATIENCE: Final = 5.0
"""Seconds in which containerd opens its end of standard input."""


@asynccontextmanager
async def opened(stdin: str, stdout: str, stderr: str) -> AsyncIterator[tuple[int, int, int]]:
    """Three descriptors, /dev/null for an empty path; closed afterwards. Raises OSError."""
    with ExitStack() as undo:
        source = await _readable(stdin)
        undo.callback(os.close, source)
        output = _writable(stdout)
        undo.callback(os.close, output)
        errors = _writable(stderr)
        undo.callback(os.close, errors)
        yield source, output, errors


def _writable(path: str) -> int:
    # Read-write: the reader may be a containerd that is just restarting; nothing written may be lost.
    return os.open(path or os.devnull, os.O_RDWR | os.O_CLOEXEC)


async def _readable(path: str) -> int:
    """A FIFO that nobody has opened for writing yet reads as ended: so wait until somebody has."""
    if not path:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    opening = asyncio.create_task(asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC))
    try:
        await asyncio.wait([opening], timeout=PATIENCE)
        return await opening if opening.done() else await _given_up(path, opening)
    except asyncio.CancelledError:
        os.close(await _given_up(path, opening))
        raise


async def _given_up(path: str, opening: asyncio.Task[int]) -> int:
    """Let the thread go that waits for a writer: one that comes and goes. The command then reads an end of file."""
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    return await opening
