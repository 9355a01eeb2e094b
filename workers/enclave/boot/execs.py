"""Commands beside the workload: the host asks at a door, the agent judges, crun starts what it admits.

Zone: enclave. May import: `workers.enclave`, `orchestrator.faults`, `schemas`.

One request a connection, one thread a connection (`schemas.execs`). Nothing of a request is used but its words, whether
it wants a terminal, and three descriptors for its streams: the rest of the process is the workload's own, as the owner
approved it. Statuses are kept until they are taken, so that the host's processes may die and ask again.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from orchestrator.faults import Code, Fault, Permanent
from schemas.execs import (
    MAX_PACKET,
    STREAMS,
    Done,
    Forget,
    Refused,
    Request,
    Resize,
    Signal,
    Start,
    Wait,
    decode_request,
    encode_reply,
)
from schemas.strict_json import Malformed
from workers.enclave import messages
from workers.enclave.boot.process import with_terminal
from workers.enclave.boot.supervision import Workload
from workers.enclave.boot.terminal import Terminal, console_socket

MOST: Final = 128
"""Commands at once, and as many requests."""

_PATIENCE: Final = 10.0
"""Seconds for a request to arrive; for a terminal's last words."""

LOOK: Final = 0.5
"""Seconds between two looks at whether somebody still waits."""

Size: TypeAlias = Callable[[int, int], None]
"""Gives the workload's own terminal `(rows, columns)`; does nothing where it has none."""

Ask: TypeAlias = Callable[[str, tuple[str, ...], bool], None]
"""Has the agent judge `(exec, args, terminal)`; raises Permanent unless it is admitted."""


@dataclass(slots=True)
class _Command:
    """One command. `settled` when it runs or is refused (`fault`), `ended` when `status` is known."""

    pid: int = 0
    pidfd: int | None = None
    fault: Fault | None = None
    status: int = 0
    at_ns: int = 0
    terminal: Terminal | None = None
    settled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


class ExecDoor:
    """Open from its making. `process` is the workload's own part of an OCI configuration."""

    def __init__(
        self, place: Path, container: str, workload: Workload, process: dict[str, Any], size: Size, ask: Ask
    ) -> None:
        """Listen at `place`, for this container alone."""
        self._place = place
        self._size = size
        self._container = container
        self._workload = workload
        self._process = process
        self._ask = ask
        self._commands: dict[str, _Command] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._free = threading.BoundedSemaphore(MOST)
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(place))
        place.chmod(0o600)
        self._listener.listen(MOST)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """No more requests: when the workload has ended, so has every command."""
        self._place.unlink(missing_ok=True)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            self._free.acquire()
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        streams: list[int] = []
        try:
            with connection:
                connection.settimeout(_PATIENCE)
                packet, streams, flags, _ = socket.recv_fds(connection, MAX_PACKET, STREAMS, socket.MSG_CMSG_CLOEXEC)
                reply, attached = self._answer(connection, packet if not flags & socket.MSG_TRUNC else b"", streams)
                try:
                    socket.send_fds(connection, [encode_reply(reply)], attached)
                finally:
                    for descriptor in attached:
                        os.close(descriptor)
        except OSError:
            pass  # who asked is gone, and will ask again
        finally:
            for descriptor in streams:
                os.close(descriptor)
            self._free.release()

    def _answer(self, connection: socket.socket, packet: bytes, streams: list[int]) -> tuple[Done | Refused, list[int]]:
        """The reply, and descriptors to go with it."""
        try:
            request = decode_request(packet)
            if request.container != self._container:
                raise _unknown("this enclave is of another container", request.container)
            if isinstance(request, Start):
                return self._start(request, streams)
            if isinstance(request, Resize) and not request.exec:
                self._size(request.rows, request.columns)
                return Done(), []
            return self._about(request, connection), []
        except Malformed as malformed:
            return Refused(Code.INPUT.value, "the request cannot be understood", got=str(malformed)), []
        except Fault as fault:
            return Refused(**messages.told(fault)), []

    def _start(self, request: Start, streams: list[int]) -> tuple[Done, list[int]]:
        with self._lock:
            command = self._commands.get(request.exec)
            mine = command is None
            if command is None:
                self._make_room()
                command = self._commands[request.exec] = _Command()
        if mine:
            try:
                self._run(command, request, streams)
            except Fault as fault:
                command.fault = fault
                with self._lock:
                    self._commands.pop(request.exec, None)
            finally:
                command.settled.set()
        command.settled.wait()
        if command.fault is not None:
            raise command.fault
        with self._lock:
            return Done(pid=command.pid), [os.dup(command.pidfd)] if command.pidfd is not None else []

    def _run(self, command: _Command, request: Start, streams: list[int]) -> None:
        if len(streams) != STREAMS:
            raise Permanent(Code.INPUT, "a command needs its streams", expected="3", got=str(len(streams)))
        self._ask(request.exec, request.args, request.terminal)
        process = {**self._process, "args": list(request.args), "terminal": request.terminal}
        try:
            if request.terminal:
                self._in_a_terminal(command, process, streams)
            else:
                command.pid, command.pidfd = self._workload.exec(process, dict(enumerate(streams)))
        except OSError as error:
            raise Permanent(
                Code.EXEC_FAILED,
                "the command could not be started",
                expected="room for a process, its files and its terminal",
                got=f"{type(error).__name__} {error.errno}",
                advice="see the limits of the pod",
            ) from error
        threading.Thread(target=self._await, args=(command,), daemon=True).start()

    def _in_a_terminal(self, command: _Command, process: dict[str, Any], streams: list[int]) -> None:
        process["env"] = with_terminal(process["env"])
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            with console_socket(self._place.with_name(f"console-{next(self._numbers)}")) as console:
                # crun has handed the terminal over when it has started the command.
                nothing = dict.fromkeys(range(STREAMS), null)
                command.pid, command.pidfd = self._workload.exec(process, nothing, console.path)
                command.terminal = Terminal(console.master(), os.dup(streams[0]), os.dup(streams[1]))
        finally:
            os.close(null)

    def _await(self, command: _Command) -> None:
        ended = self._workload.children.end_of(command.pid)
        if ended is not None:
            if command.terminal is not None:
                command.terminal.drain(_PATIENCE)
            code, command.at_ns = ended
            command.status = code if code >= 0 else 128 - code
            with self._lock:
                if command.pidfd is not None:
                    os.close(command.pidfd)
                command.pidfd = None
            command.ended.set()

    def _about(self, request: Request, connection: socket.socket) -> Done:
        command = self._commands.get(request.exec)
        if isinstance(request, Forget):
            with self._lock:
                if command is not None and command.ended.is_set():
                    del self._commands[request.exec]
            return Done()
        if command is None:
            raise _unknown("there is no such command", request.exec)
        command.settled.wait()
        match request:
            case Wait():
                while not command.ended.wait(LOOK):
                    _check_waiting(connection)
                return Done(command.pid, command.status, command.at_ns)
            case Signal(number=number):
                with self._lock:
                    if command.pidfd is None:
                        raise _unknown("the command has ended", request.exec)
                    with suppress(ProcessLookupError):
                        signal.pidfd_send_signal(command.pidfd, number)
            case Resize(rows=rows, columns=columns):
                if command.terminal is not None:
                    command.terminal.resize(rows, columns)
        return Done()

    def _make_room(self) -> None:
        """Forget the oldest command whose end nobody took, where there are too many. Raises Permanent(EXEC_FAILED)."""
        if len(self._commands) < MOST:
            return
        ended = next((id_ for id_, command in self._commands.items() if command.ended.is_set()), None)
        if ended is None:
            raise Permanent(
                Code.EXEC_FAILED,
                "too many commands run beside this workload",
                expected=f"at most {MOST}",
                got="another one",
                advice="wait for some of them",
            )
        del self._commands[ended]


def _check_waiting(connection: socket.socket) -> None:
    """Raise OSError when the other end of a connection has gone: else its thread would stay."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if poll.poll(0):  # it has nothing more to say, so this is its end
        raise ConnectionResetError


def _unknown(message: str, got: str) -> Permanent:
    return Permanent(Code.NOT_FOUND, message, expected="a container and a command that are here", got=got[:128])
