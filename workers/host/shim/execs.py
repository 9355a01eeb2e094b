"""Commands beside a container's workload (exec): the half of the Task service whose requests carry an exec id.

Peer: containerd runtime/v2/runc/task, the same calls. Exec only remembers; Start asks the enclave, whose refusal is the
answer, code first, so that `kubectl exec` and the events of a probe show it.

- What was refused, or could not be started, has ended with status 255.
- A command ends with its container, by SIGKILL: so its status is 137 where nobody is left to tell it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from time import time_ns
from typing import Any, Protocol

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from orchestrator.faults import Fault
from schemas.containerd import events_pb2
from schemas.containerd import task_pb2 as pb
from workers.host.shim.bundle_log import log
from workers.host.shim.pod import ExecRequest, Exit, Pod, Streams
from workers.host.shim.process import FAILED, SIGNALLED, Process
from workers.host.shim.timestamp import timestamp
from workers.host.shim.ttrpc.status import Refusal, StatusCode

_MAX_SPEC_BYTES = 1 << 20


class Events(Protocol):
    """Where containerd's events go, in order: see `publisher`."""

    def publish(self, event: Message) -> None:
        """Queue one. Never waits."""


class Background(Protocol):
    """What runs what waits for exits: a loop."""

    def create_task(self, work: Coroutine[Any, Any, None], /) -> object:
        """Run it."""


@dataclass(slots=True, kw_only=True)
class Command(Process):
    """One command as containerd sees it."""

    args: tuple[str, ...]


class Execs:
    """The commands of one pod's containers, by container and exec id."""

    def __init__(self, pod: Pod, publisher: Events, background: Background) -> None:
        self._pod = pod
        self._publisher = publisher
        self._background = background
        self._commands: dict[tuple[str, str], Command] = {}

    def add(self, request: pb.ExecProcessRequest) -> Empty:
        """Remember what is to be started in a container that runs."""
        key = (request.id, request.exec_id)
        if key in self._commands:
            raise Refusal(StatusCode.ALREADY_EXISTS, f"exec {request.exec_id} already exists")
        streams = Streams(request.stdin, request.stdout, request.stderr, request.terminal)
        self._commands[key] = Command(streams=streams, args=_args(request.spec.value))
        self._publisher.publish(events_pb2.TaskExecAdded(container_id=request.id, exec_id=request.exec_id))
        return Empty()

    def find(self, container: str, exec_id: str) -> Command:
        """Raises Refusal(NOT_FOUND)."""
        command = self._commands.get((container, exec_id))
        if command is None:
            raise Refusal(StatusCode.NOT_FOUND, f"no process {exec_id} is known here")
        return command

    def pids(self, container: str) -> list[int]:
        """Of those that run."""
        ours = [command for (id_, _), command in self._commands.items() if id_ == container]
        return [command.pid for command in ours if command.pid and command.exit is None]

    def drop(self, container: str) -> None:
        """The container is gone, and its commands with it."""
        for key in [key for key in self._commands if key[0] == container]:
            self._end(key, self._commands.pop(key), Exit(SIGNALLED + 9, time_ns()))

    async def start(self, container: str, exec_id: str) -> pb.StartResponse:
        """Ask the enclave to start it. Raises the enclave's own refusal."""
        command, key = self.find(container, exec_id), (container, exec_id)
        if command.started or command.exit is not None:
            raise Refusal(StatusCode.FAILED_PRECONDITION, f"exec {exec_id} was started before")
        command.started = True
        try:
            request = ExecRequest(container, exec_id, command.args, command.streams)
            command.pid = await self._pod.start_exec(request)
        except BaseException:
            command.exit = Exit(FAILED, time_ns())
            command.ended.set()
            raise
        self._publisher.publish(events_pb2.TaskExecStarted(container_id=container, exec_id=exec_id, pid=command.pid))
        self._background.create_task(self._watch(key, command))
        return pb.StartResponse(pid=command.pid)

    async def kill(self, container: str, exec_id: str, number: int) -> Empty:
        """Send it a signal, or end one that was never started."""
        command = self.find(container, exec_id)
        async with command.turn:
            if command.exit is not None:
                raise Refusal(StatusCode.NOT_FOUND, f"exec {exec_id} has ended")
            if command.started:
                await self._pod.signal_exec(container, exec_id, number)
            elif number:
                self._end((container, exec_id), command, Exit(SIGNALLED + number, time_ns()))
        return Empty()

    async def delete(self, container: str, exec_id: str) -> pb.DeleteResponse:
        """Forget one that has ended or was never started."""
        command = self.find(container, exec_id)
        async with command.turn:
            if self._commands.get((container, exec_id)) is not command:
                raise Refusal(StatusCode.NOT_FOUND, f"exec {exec_id} has been deleted")
            if command.started and command.exit is None:
                raise Refusal(StatusCode.FAILED_PRECONDITION, f"exec {exec_id} is running")
            if command.pid:
                with contextlib.suppress(Fault):  # forgotten with its container, at the latest
                    await self._pod.forget_exec(container, exec_id)
            self._commands.pop((container, exec_id), None)
        ended = command.exit or Exit(SIGNALLED + 9, time_ns())
        return pb.DeleteResponse(pid=command.pid, exit_status=ended.status, exited_at=timestamp(ended.at_ns))

    async def resize(self, container: str, exec_id: str, rows: int, columns: int) -> Empty:
        """Its terminal has another size; without a terminal nothing has."""
        command = self.find(container, exec_id)
        if command.streams.terminal and command.started and command.exit is None:
            await self._pod.resize_exec(container, exec_id, rows, columns)
        return Empty()

    async def _watch(self, key: tuple[str, str], command: Command) -> None:
        try:
            ended = await self._pod.exit_of_exec(*key)
        except Fault as fault:
            log("error", "exit unknown", id=key, diagnosis=fault.diagnostics())
            ended = Exit(FAILED, time_ns())
        self._end(key, command, ended)

    def _end(self, key: tuple[str, str], command: Command, ended: Exit) -> None:
        """Once a command: remember its exit, wake who waits, and tell containerd of one that ran."""
        if command.exit is not None:
            return
        command.exit = ended
        command.ended.set()
        if command.started:
            container, exec_id = key
            self._publisher.publish(
                events_pb2.TaskExit(
                    container_id=container,
                    id=exec_id,
                    pid=command.pid,
                    exit_status=ended.status,
                    exited_at=timestamp(ended.at_ns),
                )
            )


def _args(spec: bytes) -> tuple[str, ...]:
    """The words of an OCI process in JSON. The rest of it is not used: see `workers.enclave.boot.execs`."""
    try:
        words = json.loads(spec)["args"] if len(spec) <= _MAX_SPEC_BYTES else None
    except (ValueError, KeyError, TypeError, RecursionError):
        words = None
    if not isinstance(words, list) or not words or not all(_is_word(word) for word in words):
        raise Refusal(StatusCode.INVALID_ARGUMENT, "an OCI process with args is expected")
    return tuple(words)


def _is_word(word: object) -> bool:
    """A text that UTF-8 can hold, as not all of JSON's are, and a process can be given."""
    if not isinstance(word, str) or "\0" in word:
        return False
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
