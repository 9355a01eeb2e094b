"""A storm over one shim: scripts at once on connections of their own, and what must hold whatever they say.

1. Every request of a lawful script is answered exactly once, the waiting ones at the latest when their task has ended.
2. No answer is INTERNAL: that is a defect which was caught on its way.
3. The shim lives until it was asked to end, and then ends by itself, its socket removed.
4. What containerd does to clean up (Kill, Delete) ends every task within its patience.
5. Events of one id come in the order of a life.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from orchestrator.faults import Temporary
from schemas.containerd import task_pb2 as pb
from schemas.containerd import ttrpc_pb2
from tests.fuzz.stormed_shim import StormedShim
from tests.fuzz.traffic import Script
from tests.simulators.ttrpc_client import CallFailed, Client
from workers.host.shim.ttrpc.frame import RESPONSE, Decoder
from workers.host.shim.ttrpc.status import StatusCode

PATIENCE: Final = 60.0
"""Seconds in which anything that must end has ended; only a failure reaches them."""

_SETTLED: Final = (StatusCode.NOT_FOUND, StatusCode.INVALID_ARGUMENT)
_CHUNK: Final = 1 << 16


class Broken(AssertionError):
    """One of the rules does not hold."""


class Connection:
    """One script on one connection; `finish` once the storm is over."""

    def __init__(self, shim: StormedShim, script: Script) -> None:
        self._shim = shim
        self._script = script
        self._owed: Counter[int] = Counter()
        self._asked: dict[int, str] = {}
        self._decoder = Decoder()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._news = asyncio.Condition()
        self._listening: asyncio.Task[None] | None = None
        self.answers: Counter[int] = Counter()
        """Statuses, counted."""

    async def play(self) -> None:
        """Write the script, reading on the way or not."""
        self._reader, self._writer = await asyncio.open_unix_connection(self._shim.path, limit=_CHUNK)
        if self._script.reads:
            self._listen()
        with contextlib.suppress(ConnectionError):
            for step in self._script.steps:
                self._owed.update(step.streams)
                self._asked.update(zip(step.streams, step.asked, strict=True))
                for start in range(0, len(step.data), step.piece):
                    self._writer.write(step.data[start : start + step.piece])
                    if self._script.reads or len(step.data) < _CHUNK:
                        await self._writer.drain()
                if step.awaited and self._script.reads:
                    await self._answered(step.streams)
        if not self._script.lawful:
            self._writer.close()

    async def finish(self) -> None:
        """Rule 1: wait for what is owed yet. An answer that nobody asked for breaks it too."""
        assert self._writer is not None
        if self._script.lawful and self._shim.alive():
            if self._listening is None:
                self._listen()
            await self._answered(list(self._owed))
        self._writer.close()
        if self._listening is not None:
            self._listening.cancel()
            done, _ = await asyncio.wait([self._listening])
            for task in done:
                if not task.cancelled():
                    task.result()

    def _listen(self) -> None:
        self._listening = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._reader is not None
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(_CHUNK):
                for frame in self._decoder.feed(data):
                    await self._take(frame.stream, frame.kind, frame.data)
        async with self._news:
            self._owed.clear()  # rule 3 judges who closed
            self._news.notify_all()

    async def _take(self, stream: int, kind: int, data: bytes | None) -> None:
        if kind != RESPONSE or data is None:
            raise Broken(f"rule 1: a frame of kind {kind} on stream {stream} came back")
        response = ttrpc_pb2.Response.FromString(data)
        self.answers[response.status.code] += 1
        if response.status.code == StatusCode.INTERNAL:
            raise Broken(
                f"rule 2: {self._asked[stream]}: {response.status.message}; {' | '.join(self._shim.defects()[-1:])}"
            )
        if not self._owed[stream]:
            raise Broken(f"rule 1: stream {stream} was answered once more: {response.status.message!r}")
        self._owed[stream] -= 1
        async with self._news:
            self._news.notify_all()

    async def _answered(self, streams: Sequence[int]) -> None:
        assert self._listening is not None
        try:
            async with asyncio.timeout(PATIENCE), self._news:
                while any(self._owed[stream] for stream in streams):
                    if self._listening.done():
                        self._listening.result()
                        return
                    await self._wait()
        except TimeoutError:
            left = [self._asked[stream] for stream, count in self._owed.items() if count]
            raise Broken(f"rule 1: no answer to {left} within {PATIENCE:g} s") from None

    async def _wait(self) -> None:
        """For news, or for the reader's failure, which notifies nobody."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.2)


async def rage(shim: StormedShim, scripts: Iterable[Script], tasks: Sequence[str]) -> Counter[int]:
    """Play `scripts` at once, then end tasks as containerd would. Statuses of the answers, counted."""
    connections = [Connection(shim, script) for script in scripts]
    for outcome in await asyncio.gather(*(connection.play() for connection in connections), return_exceptions=True):
        if outcome is not None:
            raise outcome
    for task in tasks:
        await end(shim, task)
    answers: Counter[int] = Counter()
    for connection in connections:
        await connection.finish()
        answers += connection.answers
    return answers


async def end(shim: StormedShim, container: str) -> None:
    """Rule 4: Kill and Delete until there is no such task."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + PATIENCE
    while True:
        await ask(shim, "Kill", pb.KillRequest(id=container, signal=9), Empty)
        status = await ask(shim, "Delete", pb.DeleteRequest(id=container), pb.DeleteResponse)
        if status is None or status in _SETTLED or not shim.alive():
            return
        if loop.time() > ends:
            raise Broken(f"rule 4: {container[:64]} cannot be deleted: status {status}; {shim.log()[-3:]}")
        await asyncio.sleep(0.02)


async def ask(shim: StormedShim, name: str, request: Message, reply: type[Message]) -> int | None:
    """The status of one call on a connection of its own; None for success, UNAVAILABLE for a shim that has ended."""
    try:
        async with Client(shim.path) as client:
            await client.call(f"containerd.task.v2.Task/{name}", request, reply, seconds=PATIENCE / 2)
    except CallFailed as failed:
        if failed.status == StatusCode.INTERNAL:
            raise Broken(f"rule 2: {failed}; {' | '.join(shim.defects()[-1:])}") from failed
        return failed.status
    except Temporary:
        return StatusCode.UNAVAILABLE
    return None
