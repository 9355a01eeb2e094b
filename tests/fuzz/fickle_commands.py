"""Commands beside workloads, and what a host does to containers, on a node that is stormed: late, refused, cut short.

As boot init and runc answer, of containers whose history says that they run; what a command does is to end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from time import time_ns
from typing import Final

from orchestrator.faults import Code
from schemas import commands_pb2

_PID: Final = 4_100_000
"""Above the kernel's highest: no process has it."""


@dataclass(slots=True)
class _Command:
    """One that was started: when it ends, and how."""

    pid: int
    ends_ns: int
    status: int

    @property
    def ended(self) -> bool:
        return time_ns() >= self.ends_ns


class FickleCommands:
    """`runs` says whether a container of that runc id does; `whim` gives the chance of a named occasion."""

    def __init__(self, runs: Callable[[str], bool], whim: Callable[..., random.Random]) -> None:
        self._runs = runs
        self._whim = whim
        self._commands: dict[tuple[str, str], _Command] = {}
        self._asked = 0

    async def exec(self, raw: bytes) -> bytes:
        """Answer an ExecRequest with an ExecReply, or with what is none."""
        request = commands_pb2.ExecRequest.FromString(raw)
        whim = self._next(request.runc_id)
        if (fate := whim.random()) < 0.04:
            return b"\xff\xff no reply at all"
        await asyncio.sleep(whim.choice((0, 0, 0, 0.01, 0.05)))
        if not self._runs(request.runc_id):
            return _refusal(Code.NOT_FOUND, "there is no such container on this node")
        key = (request.runc_id, request.exec)
        if request.WhichOneof("ask") == "start":
            if fate < 0.15:
                return _refusal(Code.EXEC_DENIED, "the launch policy admits no such command")
            ends = time_ns() + int(whim.choice((0, 0.01, 0.3)) * 1e9)
            command = self._commands.setdefault(key, _Command(_PID + len(self._commands), ends, whim.randrange(4)))
            return commands_pb2.ExecReply(pid=command.pid).SerializeToString()
        found = self._commands.get(key)
        if found is None:
            return _refusal(Code.NOT_FOUND, "there is no such command")
        return await self._told(request, found, key)

    async def control(self, raw: bytes) -> bytes:
        """Answer a ControlRequest with a ControlReply, or with what is none."""
        request = commands_pb2.ControlRequest.FromString(raw)
        fate = self._next(request.runc_id).random()
        if fate < 0.05:
            return b"\xff\xff no reply at all"
        if not self._runs(request.runc_id):
            return commands_pb2.ControlReply(code=Code.NOT_FOUND, message="no such container").SerializeToString()
        if fate < 0.1:
            return commands_pb2.ControlReply(code=Code.RUNTIME, message="runc refused").SerializeToString()
        return commands_pb2.ControlReply().SerializeToString()

    async def _told(self, request: commands_pb2.ExecRequest, command: _Command, key: tuple[str, str]) -> bytes:
        asked = request.WhichOneof("ask")
        if asked == "signal" and not command.ended and request.signal.signal in {9, 15}:
            command.ends_ns, command.status = time_ns(), 128 + request.signal.signal
        elif asked == "forget":
            del self._commands[key]
        elif asked == "wait":
            until = time_ns() + request.wait.seconds * 10**9
            while not command.ended and time_ns() < until and self._runs(request.runc_id):
                await asyncio.sleep(0.02)
            if command.ended:
                reply = commands_pb2.ExecReply(ended=True, status=command.status, exited_at_ns=command.ends_ns)
                return reply.SerializeToString()
        return commands_pb2.ExecReply().SerializeToString()

    def _next(self, runc_id: str) -> random.Random:
        self._asked += 1
        return self._whim("command", runc_id, self._asked)


def _refusal(code: Code, message: str) -> bytes:
    return commands_pb2.ExecReply(code=code.value, message=message).SerializeToString()
