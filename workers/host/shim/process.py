"""What containerd knows of a process, whether it is a task's own or one that was started beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import time_ns
from typing import Final

from schemas.containerd import process_pb2
from schemas.containerd import task_pb2 as pb
from workers.host.shim.loop import Event, Lock
from workers.host.shim.pod import Exit, Streams
from workers.host.shim.timestamp import timestamp

FAILED: Final = 255
"""Exit status of what could not be started: as containerd gives to a shim that it lost."""
SIGNALLED: Final = 128
"""An exit status above this is this and a signal's number."""


@dataclass(slots=True)
class Process:
    """`pid` is 0 while it has no process, and where nobody could tell."""

    streams: Streams
    pid: int = 0
    started: bool = False
    exit: Exit | None = None
    ended: Event = field(default_factory=Event)
    turn: Lock = field(default_factory=Lock)

    @property
    def status(self) -> process_pb2.Status:
        """Where it is, in containerd's words."""
        if self.exit is not None:
            return process_pb2.STOPPED
        return process_pb2.RUNNING if self.started else process_pb2.CREATED

    def state(self, id_: str, exec_id: str, bundle: str) -> pb.StateResponse:
        """The reply to State."""
        reply = pb.StateResponse(
            id=id_,
            exec_id=exec_id,
            bundle=bundle,
            pid=self.pid,
            status=self.status,
            stdin=self.streams.stdin,
            stdout=self.streams.stdout,
            stderr=self.streams.stderr,
            terminal=self.streams.terminal,
        )
        if self.exit is not None:
            reply.exit_status = self.exit.status
            reply.exited_at.CopyFrom(timestamp(self.exit.at_ns))
        return reply

    async def waited(self) -> pb.WaitResponse:
        """The reply to Wait, when it has ended."""
        await self.ended.wait()
        ended = self.exit or Exit(FAILED, time_ns())
        return pb.WaitResponse(exit_status=ended.status, exited_at=timestamp(ended.at_ns))
