"""A pod over the bus: requests are appended to its history, answers are read from it.

One task (`run`) follows the history and folds it; whoever waits looks at the launch each time that something came.
Asking is idempotent by the condition of the append: what the history already says is not said again.

While the bus is away (docs/adr/0014): a signal and an exit are the node's own (`alone`), a removal is written down for
later (`removals`), and everything else is UNAVAILABLE within `AWAY_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time_ns
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from orchestrator import launch as launches
from orchestrator.bus import Bus, Histories, connect, subjects
from orchestrator.events import Body, ContainerRequested, Fact, PodRequested, StartRequested, StopRequested
from orchestrator.faults import Code, Fault, Permanent, Temporary
from orchestrator.fold import apply
from orchestrator.launch import Launch, Progress, held
from orchestrator.lifecycle import Zone
from schemas import commands_pb2
from workers.host import removals
from workers.host.node import Node
from workers.host.shim.pod import ContainerRequest, ExecRequest, Exit, SandboxRequest

if TYPE_CHECKING:
    from workers.host.shim.alone import Alone

NEVER_RAN: Final = 255
"""Exit status of a container that was removed before it had a process."""
SIGNAL_SECONDS: Final = 15.0
"""In which a node must have answered a signal: a worker that was killed is back in three."""
AWAY_SECONDS: Final = 15.0
"""For which the bus may be away before a request is answered with that."""
REMOVAL_SECONDS: Final = 4.0
"""The same for a removal, which is then written down: containerd waits ten seconds for one that an exit leads to."""
_LOOK_ALONE: Final = 0.5
_ONE_TRY: Final = 5.0
_PAUSE: Final = 0.25
_LOOK: Final = 3
"""Seconds that a node waits for a command's end before it is asked again."""
_LATE: Final = 2.0
_ONE_EXEC: Final = 15.0
_EXEC_SECONDS: Final = 60.0
"""In which a command must have been started or refused, whoever was killed meanwhile."""
_KILLED: Final = 137
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Connection:
    """The bus, and who we are there; any number of pods may share one."""

    node: Node
    bus: Bus
    histories: Histories


class BusPod:
    """See `pod.Pod`. Nothing works, and everything waits, until `run` runs."""

    def __init__(
        self,
        sandbox: str,
        load: Callable[[], Node],
        patience: float = SIGNAL_SECONDS,
        reached: Callable[[], Awaitable[Connection]] | None = None,
    ) -> None:
        """`sandbox` is the pod's id; `load` reads the node's configuration, when `run` needs it.

        `patience` is how many seconds the node may be away when it is to send a signal. `reached` waits for a
        connection that others have too; without it there is one of this pod's own.
        """
        self._reached = reached
        self._sandbox = sandbox
        self._load = load
        self._patience = patience
        self._connection: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._launch = launches.new(sandbox)
        self._broken: Fault | None = None
        self._news = asyncio.Condition()
        self._away_since: float | None = None
        self._awaited: set[str] = set()
        self._ended: dict[str, Exit] = {}

    async def run(self) -> None:
        """Connect, then follow the history until cancelled. A fault is what every call is then answered with."""
        try:
            if self._reached is not None:
                await self._follow(await self._reached())
                return
            node = self._load()
            async with await self._connect(node) as bus:
                await self._follow(Connection(node, bus, Histories(bus)))
        except Fault as fault:
            async with self._news:
                self._broken = fault
                self._news.notify_all()
            if not self._connection.done():
                self._connection.set_exception(fault)
                self._connection.exception()

    async def _connect(self, node: Node) -> Bus:
        return await connect(node.credentials_of("shim"), f"shim/{node.name}/{self._sandbox[:12]}", AWAY_SECONDS)

    async def request_sandbox(self, request: SandboxRequest) -> int:
        """See `Pod`."""
        node = (await self._connected()).node
        body = PodRequested(
            node=node.name,
            namespace=request.namespace,
            name=request.name,
            uid=request.uid,
            bundle=request.bundle,
            init_data_sha256=request.init_data_sha256,
            hold_seconds=node.hold_failed_seconds if request.hold_seconds is None else request.hold_seconds,
            operators=node.operators,
            prefetch=request.prefetch,
        )
        await self._append(body, "", lambda launch: launch.requested is None)
        return await self._until(_sandbox_pid, AWAY_SECONDS)

    async def attested(self) -> None:
        """See `Pod`."""
        await self._until(_is_attested, AWAY_SECONDS)

    async def request_container(self, request: ContainerRequest) -> None:
        """See `Pod`."""
        await self._until(_sandbox_pid, AWAY_SECONDS)
        body = ContainerRequested(
            image=request.image,
            bundle=request.bundle,
            stdin=request.streams.stdin,
            stdout=request.streams.stdout,
            stderr=request.streams.stderr,
            terminal=request.streams.terminal,
            name=request.name,
            process_sha256=request.process_sha256,
        )
        await self._append(body, request.id, lambda launch: _may_request(launch, request.id))
        await self._until(lambda launch: _is_sealed(launch, request.id), AWAY_SECONDS)

    async def start_container(self, container: str) -> int:
        """See `Pod`."""
        await self._append(StartRequested(), container, lambda launch: _may_start(launch, container))
        return await self._until(lambda launch: _workload_pid(launch, container), AWAY_SECONDS)

    async def exit_of(self, container: str) -> Exit:
        """See `Pod`. By the history; while the bus is away, by what the history will be told."""
        id_ = container or self._sandbox
        self._awaited.add(id_)
        return await self._until(lambda launch: _exit(launch, container) or self._ended.get(id_))

    async def signal(self, container: str, number: int, *, everything: bool) -> None:
        """See `Pod`."""
        id_ = container or self._sandbox
        request = commands_pb2.SignalRequest(runc_id=id_, signal=number, all=everything)
        try:
            raw = await self._ask_node("signal", request.SerializeToString(), now=True)
        except Temporary:
            if await _alone(self._load()).signal(id_, number, everything=everything):
                return
            raise
        try:
            reply = commands_pb2.SignalReply.FromString(raw)
            code = Code(reply.code) if reply.code else None
        except (DecodeError, ValueError):
            code, reply = Code.INTERNAL, commands_pb2.SignalReply(message="the answer does not parse")
        if code is not None:
            raise Permanent(code, f"signal {number} was not sent", expected="a running container", got=reply.message)

    async def remove(self, container: str, reason: str) -> None:
        """See `Pod`. While the bus is away it is written down, and done when it is back."""
        try:
            node = (await self._connected()).node
        except Temporary:
            if self._reached is not None:  # others reached it, and asked for this pod
                removals.note(self._load().run_dir, self._sandbox, container, reason)
            return  # nothing was ever asked of a bus that was never reached
        removing = asyncio.create_task(self._removed(container, reason))
        # What this looks for never comes: the bus's being away ends it.
        away: asyncio.Task[None] = asyncio.create_task(self._until(lambda _: None, REMOVAL_SECONDS))
        try:
            await asyncio.wait({removing, away}, return_when=asyncio.FIRST_COMPLETED)
            try:
                if removing.done() or self._broken is not None:
                    await removing
                    return
            except Temporary:
                if self._broken is not None:
                    raise
            removals.note(node.run_dir, self._sandbox, container, reason)
        finally:
            for task in (removing, away):
                task.cancel()
            await asyncio.gather(removing, away, return_exceptions=True)

    async def _removed(self, container: str, reason: str) -> None:
        if not _was_asked_for(self._launch, container):
            launch = await (await self._connected()).histories.launch(self._sandbox)
            if not _was_asked_for(launch, container):
                return
        await self._append(StopRequested(reason), container, lambda now: removals.may_stop(now, container))
        await self._until(lambda now: removals.is_gone(now, container) or None)

    async def start_exec(self, request: ExecRequest) -> int:
        """See `Pod`."""
        streams = request.streams
        start = commands_pb2.ExecStart(
            args=request.args,
            terminal=streams.terminal,
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
        )
        asked = commands_pb2.ExecRequest(runc_id=request.container, exec=request.id, start=start)
        # A boot init takes the same start twice for one, so it may be asked again.
        return (await self._ask_exec(asked, _ONE_EXEC, _EXEC_SECONDS)).pid

    async def exit_of_exec(self, container: str, exec_id: str) -> Exit:
        """See `Pod`. A worker that is away will be back, and boot init keeps what it will ask for."""
        wait = commands_pb2.ExecWait(seconds=_LOOK)
        asked = commands_pb2.ExecRequest(runc_id=container, exec=exec_id, wait=wait)
        while True:
            try:
                reply = await self._ask_exec(asked, _LOOK + _LATE, 2 * _LOOK)
            except Temporary:
                if not self._launch.sequence:
                    continue  # nothing is read yet
                known = self._launch.containers.get(container)
                lives = known is not None and known.progress.exit is None and container not in self._ended
                if lives and not self._launch.progress.torn_down:
                    await asyncio.sleep(_PAUSE)
                    continue
                return Exit(_KILLED, time_ns())
            except Permanent as fault:
                if fault.code is not Code.NOT_FOUND:
                    raise
                return Exit(_KILLED, time_ns())
            if reply.ended:
                return Exit(reply.status, reply.exited_at_ns)

    async def signal_exec(self, container: str, exec_id: str, number: int) -> None:
        """See `Pod`."""
        signal = commands_pb2.ExecSignal(signal=number)
        await self._ask_exec(commands_pb2.ExecRequest(runc_id=container, exec=exec_id, signal=signal))

    async def resize_exec(self, container: str, exec_id: str, rows: int, columns: int) -> None:
        """See `Pod`."""
        resize = commands_pb2.ExecResize(rows=rows, columns=columns)
        await self._ask_exec(commands_pb2.ExecRequest(runc_id=container, exec=exec_id, resize=resize))

    async def forget_exec(self, container: str, exec_id: str) -> None:
        """See `Pod`."""
        asked = commands_pb2.ExecRequest(runc_id=container, exec=exec_id, forget=commands_pb2.ExecForget())
        await self._ask_exec(asked, patience=_ONE_TRY)

    async def pause(self, container: str) -> None:
        """See `Pod`."""
        await self._control(commands_pb2.ControlRequest(runc_id=container or self._sandbox, pause=commands_pb2.Pause()))

    async def unpause(self, container: str) -> None:
        """See `Pod`."""
        await self._control(
            commands_pb2.ControlRequest(runc_id=container or self._sandbox, unpause=commands_pb2.Unpause())
        )

    async def limit(self, container: str, resources: bytes) -> None:
        """See `Pod`."""
        limit = commands_pb2.Limit(resources=resources)
        await self._control(commands_pb2.ControlRequest(runc_id=container or self._sandbox, limit=limit))

    async def _follow(self, connection: Connection) -> None:
        self._connection.set_result(connection)
        looking = asyncio.create_task(self._look_alone(connection))
        try:
            async for recorded in connection.histories.follow(self._sandbox):
                await self._know(apply(self._launch, recorded))
        finally:
            looking.cancel()
            connection.histories.forget(self._sandbox)  # one connection serves a node's pods, and outlives them

    async def _control(self, request: commands_pb2.ControlRequest) -> None:
        raw = await self._ask_node("control", request.SerializeToString(), _ONE_EXEC)
        reply = commands_pb2.ControlReply()
        _parse(reply, raw)
        _raise_told(reply)

    async def _ask_exec(
        self, request: commands_pb2.ExecRequest, one_try: float = _ONE_TRY, patience: float | None = None
    ) -> commands_pb2.ExecReply:
        raw = await self._ask_node("exec", request.SerializeToString(), one_try, patience)
        reply = commands_pb2.ExecReply()
        _parse(reply, raw)
        _raise_told(reply)
        return reply

    async def _connected(self) -> Connection:
        """Raises Temporary(BUS_AWAY) where it could not be reached in `AWAY_SECONDS`."""
        try:
            async with asyncio.timeout(AWAY_SECONDS):
                return await asyncio.shield(self._connection)
        except TimeoutError as error:
            raise _bus_is_away() from error

    async def _ask_node(
        self,
        verb: str,
        request: bytes,
        one_try: float = _ONE_TRY,
        patience: float | None = None,
        *,
        now: bool = False,
    ) -> bytes:
        """Ask again while nobody answers: a worker that is starting anew is no reason to fail a stop.

        `now`: not while the bus is away.
        """
        connection, clock = await self._connected(), asyncio.get_running_loop().time
        patience = self._patience if patience is None else patience
        subject, ends = subjects.host_request(connection.node.name, verb), clock() + patience
        while True:
            connection.bus.check()
            try:
                if connection.bus.is_away:
                    raise _bus_is_away()  # and not be sent later, when nobody waits for it any more
                return await connection.bus.request(subject, request, min(one_try, patience))
            except Temporary:
                if clock() + _PAUSE > ends or self._is_away_for(AWAY_SECONDS) or (now and connection.bus.is_away):
                    raise
            await asyncio.sleep(_PAUSE)

    async def _append(self, body: Body, container: str, allowed: Callable[[Launch], bool]) -> None:
        connection = await self._connected()
        connection.histories.remember(self._launch)
        fact = Fact(self._sandbox, body, Zone.HOST, f"shim/{connection.node.name}", container=container)
        await connection.histories.append(fact, allowed=allowed, patience=AWAY_SECONDS)

    async def _know(self, launch: Launch) -> None:
        async with self._news:
            self._launch = launch
            self._news.notify_all()

    async def _look_alone(self, connection: Connection) -> None:
        """Notice that the bus is away, and what ends meanwhile."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_LOOK_ALONE)
            if not connection.bus.is_away:
                self._away_since = None
                continue
            async with self._news:
                self._away_since = self._away_since or clock()
                for id_ in self._awaited - self._ended.keys():
                    if (ended := _alone(connection.node).exit_of(id_)) is not None:
                        self._ended[id_] = ended
                self._news.notify_all()

    def _is_away_for(self, seconds: float) -> bool:
        since = self._away_since
        return since is not None and asyncio.get_running_loop().time() - since > seconds

    async def _until(self, look: Callable[[Launch], _Answer | None], seconds: float | None = None) -> _Answer:
        """The first answer that is not None, of the launch as it is now and after each fact that comes.

        Raises Temporary(BUS_AWAY) when the bus has been away for so many seconds.
        """
        if seconds is not None:
            await self._connected()
        async with self._news:
            while True:
                if self._broken is not None:
                    raise self._broken
                if (answer := look(self._launch)) is not None:
                    return answer
                if seconds is not None and self._is_away_for(seconds):
                    raise _bus_is_away()
                await self._news.wait()


def _alone(node: Node) -> Alone:
    from workers.host.shim.alone import Alone  # noqa: PLC0415 - a shim whose bus never leaves it needs none of that

    return Alone(node)


def _bus_is_away() -> Temporary:
    return Temporary(
        Code.BUS_AWAY,
        "the bus is away",
        expected="a connection to nats-server",
        got="none",
        advice="what runs goes on; bring nats-server up and try again",
    )


def _parse(reply: Message, raw: bytes) -> None:
    try:
        reply.ParseFromString(raw)
    except DecodeError as error:
        raise Permanent(Code.INTERNAL, "the node's answer does not parse", got=f"{len(raw)} bytes") from error


def _raise_told(reply: commands_pb2.ExecReply | commands_pb2.ControlReply) -> None:
    """As a Permanent, whatever it was: a kubelet would take UNAVAILABLE for containerd itself being away."""
    if reply.code:
        code = Code(reply.code) if reply.code in Code.__members__.values() else Code.INTERNAL
        raise Permanent(code, reply.message, expected=reply.expected, got=reply.got, advice=reply.advice)


# --- what is looked for in a launch: an answer, None for not yet, or a fault for never --------------------------------


def _sandbox_pid(launch: Launch) -> int | None:
    _check(launch, launch.progress)
    return launch.sandbox.pid if launch.sandbox is not None else None


def _is_attested(launch: Launch) -> bool | None:
    _check(launch, launch.progress)
    return True if launch.attested is not None else None


def _is_sealed(launch: Launch, id_: str) -> bool | None:
    container = launch.containers.get(id_)
    if container is not None:
        _check(launch, container.progress)
        if container.sealed is not None:
            return True
    _check(launch, launch.progress)
    return None


def _was_asked_for(launch: Launch, id_: str) -> bool:
    return launch.requested is not None and (not id_ or id_ in launch.containers)


def _may_request(launch: Launch, id_: str) -> bool:
    return launch.progress.live and id_ not in launch.containers


def _may_start(launch: Launch, id_: str) -> bool:
    container = launch.containers.get(id_)
    return container is not None and container.progress.live and not container.start_requested_ns


def _workload_pid(launch: Launch, id_: str) -> int | None:
    container = launch.containers.get(id_)
    if container is not None:
        if container.booted is not None and container.started is not None:
            return container.started.pid
        _check(launch, container.progress)
    _check(launch, launch.progress)
    return None


def _exit(launch: Launch, id_: str) -> Exit | None:
    container = launch.containers.get(id_)
    if id_ and container is None:
        return Exit(NEVER_RAN, launch.progress.since_ns) if launch.progress.torn_down else None
    progress = container.progress if container else launch.progress
    if progress.exit is not None:
        return Exit(progress.exit.code, progress.exit.exited_at_ns, progress.exit.out_of_memory)
    torn_down = progress.torn_down or launch.progress.torn_down
    return Exit(NEVER_RAN, progress.since_ns) if torn_down else None


def _check(launch: Launch, progress: Progress) -> None:
    """Raise why a launch goes no further, if it does not. What is held may go on yet.

    What ended it may have been temporary; its attempts are used up, so the launch is over for good. A kubelet would
    take the status of a temporary fault (UNAVAILABLE) for containerd itself being away.
    """
    if held(launch, progress):
        return
    if progress.failure is not None:
        d = progress.failure.diagnosis
        raise Permanent(d.code, d.message, expected=d.expected, got=d.got, advice=d.advice)
    if not progress.live:
        raise Permanent(
            Code.STOPPED,
            f"the launch is {progress.state}",
            expected="a launch that goes on",
            got=progress.stop_reason or str(progress.state),
        )
