"""Commands beside a workload: what the shim asks of the node, asked of the container's boot init.

Zone: host. May import: `workers.host`, `orchestrator.{bus,faults}`, `schemas`.

Nothing is decided and nothing remembered here: the enclave decides, and its boot init remembers. A worker that is
killed and started again goes on with the same commands.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from orchestrator.bus import Bus, subjects
from orchestrator.faults import Code, Fault, Permanent, Temporary, places
from schemas import commands_pb2
from schemas.execs import Forget, Request, Resize, Signal, Start, Wait
from workers.host.exec_door import ask
from workers.host.fifos import opened
from workers.host.node import Node
from workers.host.runc import Role, Runc
from workers.host.start_app import app_directory

VERB: Final = "exec"
START_SECONDS: Final = 50.0
"""For a start: the agent may have to wait for the bus before it answers."""

SECONDS: Final = 10.0
LONGEST_WAIT: Final = 30
_log = structlog.get_logger()


class Execs:
    """Answers `req.host.<node>.exec`."""

    def __init__(self, node: Node, runc: Runc) -> None:
        self._node = node
        self._runc = runc

    async def serve(self, bus: Bus, tasks: asyncio.TaskGroup) -> None:
        """Answer until the connection ends, many at a time: some requests are waits."""
        await bus.serve(subjects.host_request(self._node.name, VERB), self.answer, tasks)

    async def answer(self, raw: bytes) -> bytes:
        """An ExecRequest by an ExecReply; its code is NOT_FOUND when container or command are not there (any more)."""
        try:
            reply = await self._do(commands_pb2.ExecRequest.FromString(raw))
        except DecodeError:
            reply = commands_pb2.ExecReply(code=Code.INPUT.value, message="the request is no ExecRequest")
        except Fault as fault:
            d = fault.diagnosis
            reply = commands_pb2.ExecReply(
                code=d.code.value, message=d.message, expected=d.expected, got=d.got, advice=d.advice
            )
        except Exception as error:  # noqa: BLE001 - told as what it is, a defect; whoever asks gets an answer
            await _log.aerror("defect", verb=VERB, error=type(error).__name__, at=places(error))
            reply = commands_pb2.ExecReply(code=Code.INTERNAL.value, message=type(error).__name__)
        return reply.SerializeToString()

    async def _do(self, request: commands_pb2.ExecRequest) -> commands_pb2.ExecReply:
        of_whom, pid = (request.runc_id, request.exec), self._boot_init(request.runc_id)
        match request.WhichOneof("ask"):
            case "start":
                return await self._start(pid, request)
            case "wait":
                return await _wait(pid, Wait(*of_whom), min(request.wait.seconds, LONGEST_WAIT))
            case "signal":
                return await _told(pid, Signal(*of_whom, request.signal.signal))
            case "resize":
                return await _told(pid, Resize(*of_whom, request.resize.rows, request.resize.columns))
            case "forget":
                return await _told(pid, Forget(*of_whom))
        raise Permanent(Code.INPUT, "the request asks nothing", expected="one of five", got="none that is known here")

    async def _start(self, pid: int, request: commands_pb2.ExecRequest) -> commands_pb2.ExecReply:
        asked = request.start
        start = Start(request.runc_id, request.exec, tuple(asked.args), asked.terminal)
        try:
            async with opened(asked.stdin, asked.stdout, asked.stderr) as streams:
                _, host_pid = await ask(pid, start, streams, seconds=START_SECONDS)
        except OSError as error:
            raise Permanent(
                Code.EXEC_FAILED,
                "the command's streams cannot be opened",
                expected="containerd's FIFOs",
                got=str(error),
                advice="see containerd's log for this command",
            ) from error
        return commands_pb2.ExecReply(pid=host_pid)

    def _boot_init(self, id_: str) -> int:
        """The pid of the container's first process. Raises Permanent(NOT_FOUND)."""
        held = self._runc.record(id_)
        if held is not None and held.role is Role.APP and self._runc.exit_of(id_) is None:
            try:
                return int(_pid_file(self._node, held.pod, held.container).read_text())
            except (OSError, ValueError):
                pass  # it is being made, or removed
        raise Permanent(Code.NOT_FOUND, "there is no such container on this node", expected="one that runs", got=id_)


def _pid_file(node: Node, pod: str, container: str) -> Path:
    """Written by conmon."""
    return app_directory(node, pod, container) / "pid"


async def _wait(pid: int, request: Wait, seconds: float) -> commands_pb2.ExecReply:
    try:
        done, _ = await ask(pid, request, seconds=max(seconds, 0.1))
    except Temporary:
        return commands_pb2.ExecReply()
    return commands_pb2.ExecReply(ended=True, status=done.status, exited_at_ns=done.at_ns)


async def _told(pid: int, request: Request) -> commands_pb2.ExecReply:
    await ask(pid, request, seconds=SECONDS)
    return commands_pb2.ExecReply()
