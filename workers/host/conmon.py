"""One conmon, asked to make a container and to hold it.

Zone: host. May import: the standard library. Source: conmon(8), and src/parent_pipe_fd.c of containers/conmon for what
it reports on its synchronisation pipe: one JSON object with `pid` and perhaps `message`, and a newline.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

_LONGEST_REPORT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Streams:
    """Paths (FIFOs of containerd, or files) for the container's standard streams; empty: /dev/null."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What conmon said: the pid of the container's first process, or 0 and why there is none."""

    pid: int
    message: str


async def hold(arguments: Sequence[str], streams: Streams, directory: Path) -> Report:
    """Start `conmon arguments...` and wait for its report; conmon itself goes on.

    It works in `directory`, where it leaves a file `oom` when the kernel kills something of its container for memory.

    Raises OSError when a stream cannot be opened or conmon is not installed. Whoever cancels this leaves a conmon that
    still makes its container.
    """
    with ExitStack() as opened:
        files = [opened.enter_context(_stream(streams.stdin, os.O_RDONLY))]
        files += [opened.enter_context(_stream(path, os.O_WRONLY)) for path in (streams.stdout, streams.stderr)]
        async with _pipe() as (reader, report_end):
            conmon = await asyncio.create_subprocess_exec(
                "conmon",
                *arguments,
                stdin=files[0],
                stdout=files[1],
                stderr=files[2],
                cwd=directory,
                pass_fds=(report_end.fileno(),),
                env={"PATH": os.environ.get("PATH", os.defpath), "_OCI_SYNCPIPE": str(report_end.fileno())},
            )
            report_end.close()
            # This process ends at once; the one that holds the container is its child, and not ours.
            status = await conmon.wait()
            return _parse(await reader.readline(), status)


@asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, BinaryIO]]:
    """A pipe: its reading end in the event loop, its writing end for another process. Both are closed in the end."""
    near, far = os.pipe()
    reader = asyncio.StreamReader(limit=_LONGEST_REPORT)
    with os.fdopen(far, "wb", 0) as writing, os.fdopen(near, "rb", 0) as reading:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), reading)
        try:
            yield reader, writing
        finally:
            transport.close()


@contextmanager
def _stream(path: str, flags: int) -> Iterator[int]:
    """A file descriptor on `path` (a FIFO, opened without waiting for its other end), or on /dev/null."""
    if path and flags == os.O_WRONLY:
        # Read-write: the reader may be a containerd that is just restarting; nothing written may be lost. Appending:
        # output and errors may go to one file.
        flags = os.O_RDWR | os.O_APPEND
    descriptor = os.open(path or os.devnull, flags | os.O_CLOEXEC | (os.O_NONBLOCK if path else 0))
    try:
        os.set_blocking(descriptor, True)
        yield descriptor
    finally:
        os.close(descriptor)


def _parse(line: bytes, status: int) -> Report:
    try:
        report = json.loads(line)
        pid, message = report["pid"], str(report.get("message", ""))
    except (ValueError, KeyError, TypeError):
        pid, message = 0, f"conmon ended with status {status} and without a report"
    return Report(max(pid, 0) if isinstance(pid, int) else 0, message)
