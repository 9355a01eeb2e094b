"""A pod by way of the node's worker: each question over one connection to its socket, asked again when that was lost.

The worker holds the bus connection of all shims of its node (docs/adr/0015). It may be killed at any moment: what
waited is asked of the next one, which finds in the history what was asked before. While there is none, what would begin
something waits, and then raises Temporary(BUS_AWAY); what ends something is done without it, as without the bus
(docs/adr/0014): signals and removals by a process of their own (`alone`), exits as conmon wrote them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

from orchestrator.faults import Code, Fault, Permanent, Temporary
from schemas import pod_pb2 as pb
from workers.host.shim.loop import READ, Event, Future, Loop
from workers.host.shim.pod import ContainerRequest, ExecRequest, Exit, SandboxRequest, Streams
from workers.host.shim.ttrpc.failures import CallFailed
from workers.host.shim.ttrpc.loop_client import LoopClient
from workers.host.shim.ttrpc.status import Refusal, StatusCode

ASK: Final = "enclave_cc.pod.v1.Pod/Ask"
PATIENCE: Final = 15.0
"""Seconds that a call waits for a worker: one that was killed is back in three."""
ALONE_SECONDS: Final = 4.0
"""For what ends something, which is then done without one."""
ENDED: Final = 3
"""`alone`'s exit status for a signal to what has ended."""
_PAUSE: Final = 0.1


class LinePod:
    """See `pod.Pod`. Nothing works, and everything waits, until `run` runs."""

    def __init__(self, loop: Loop, sandbox: str, find: Callable[[], str], patience: float = PATIENCE) -> None:
        """`sandbox` is the pod's id; `find` tells the worker's socket, when `run` needs it."""
        self._patience = patience
        self._loop = loop
        self._sandbox = sandbox
        self._find = find
        self._client: LoopClient | None = None
        self._broken: Fault | None = None
        self._news = Event()

    async def run(self) -> None:
        """Stay connected for ever. A fault is what every call is then answered with."""
        try:
            path = self._find()
        except Fault as fault:
            self._broken = fault
            self._news.set()
            return
        while True:
            try:
                self._client = LoopClient(self._loop, path)
            except Temporary:
                await self._loop.sleep(_PAUSE)
                continue
            self._news.set()
            await self._client.closed.wait()
            self._client = None

    async def request_sandbox(self, request: SandboxRequest) -> int:
        """See `Pod`."""
        wanted = pb.RequestSandbox(
            bundle=request.bundle,
            namespace=request.namespace,
            name=request.name,
            uid=request.uid,
            init_data_sha256=request.init_data_sha256,
            hold_seconds=request.hold_seconds,
            prefetch=request.prefetch,
        )
        return (await self._ask(pb.PodRequest(request_sandbox=wanted))).pid

    async def attested(self) -> None:
        """See `Pod`."""
        await self._ask(pb.PodRequest(attested=pb.Attested()))

    async def request_container(self, request: ContainerRequest) -> None:
        """See `Pod`."""
        wanted = pb.RequestContainer(
            bundle=request.bundle,
            name=request.name,
            image=request.image,
            process_sha256=request.process_sha256,
            streams=_streams(request.streams),
        )
        await self._ask(pb.PodRequest(container=request.id, request_container=wanted))

    async def start_container(self, container: str) -> int:
        """See `Pod`."""
        return (await self._ask(pb.PodRequest(container=container, start_container=pb.StartContainer()))).pid

    async def exit_of(self, container: str) -> Exit:
        """See `Pod`."""
        return await self._exit(pb.PodRequest(container=container, exit_of=pb.ExitOf()))

    async def signal(self, container: str, number: int, *, everything: bool) -> None:
        """See `Pod`."""
        signal = pb.SendSignal(number=number, everything=everything)
        try:
            await self._ask(pb.PodRequest(container=container, signal=signal), ALONE_SECONDS)
        except Temporary:
            words = ("signal", container or self._sandbox, str(number), "all" if everything else "first")
            status = await self._alone(*words)
            if status == ENDED:
                raise Refusal(StatusCode.NOT_FOUND, "the process has ended") from None
            if status:
                raise

    async def remove(self, container: str, reason: str) -> None:
        """See `Pod`."""
        try:
            await self._ask(pb.PodRequest(container=container, remove=pb.Remove(reason=reason)), ALONE_SECONDS)
        except Temporary:
            if await self._alone("remove", self._sandbox, container, reason):
                raise

    async def start_exec(self, request: ExecRequest) -> int:
        """See `Pod`."""
        start = pb.StartExec(args=request.args, streams=_streams(request.streams))
        return (await self._ask(pb.PodRequest(container=request.container, exec=request.id, start_exec=start))).pid

    async def exit_of_exec(self, container: str, exec_id: str) -> Exit:
        """See `Pod`."""
        return await self._exit(pb.PodRequest(container=container, exec=exec_id, exit_of=pb.ExitOf()))

    async def signal_exec(self, container: str, exec_id: str, number: int) -> None:
        """See `Pod`."""
        signal = pb.SendSignal(number=number)
        await self._ask(pb.PodRequest(container=container, exec=exec_id, signal=signal))

    async def resize_exec(self, container: str, exec_id: str, rows: int, columns: int) -> None:
        """See `Pod`."""
        size = pb.ResizeExec(rows=rows, columns=columns)
        await self._ask(pb.PodRequest(container=container, exec=exec_id, resize_exec=size))

    async def forget_exec(self, container: str, exec_id: str) -> None:
        """See `Pod`."""
        await self._ask(pb.PodRequest(container=container, exec=exec_id, forget_exec=pb.ForgetExec()))

    async def pause(self, container: str) -> None:
        """See `Pod`."""
        await self._ask(pb.PodRequest(container=container, pause=pb.Freeze()))

    async def unpause(self, container: str) -> None:
        """See `Pod`."""
        await self._ask(pb.PodRequest(container=container, unpause=pb.Thaw()))

    async def limit(self, container: str, resources: bytes) -> None:
        """See `Pod`."""
        await self._ask(pb.PodRequest(container=container, limit=pb.SetLimits(resources=resources)))

    async def _exit(self, request: pb.PodRequest) -> Exit:
        while True:
            try:
                reply = await self._ask(request, ALONE_SECONDS)
            except Temporary:
                if not request.exec and (written := self._written(request.container or self._sandbox)) is not None:
                    return written
            except Refusal as refusal:
                if refusal.status is not StatusCode.UNAVAILABLE:
                    raise
                await self._loop.sleep(_PAUSE)
            else:
                return Exit(reply.status, reply.exited_at_ns, reply.out_of_memory)

    def _written(self, id_: str) -> Exit | None:
        """How a container ended, by conmon's files: see `workers.host.runc`."""
        try:
            path = Path(self._find()).parent
            ended = path / "exits" / id_
            status, at_ns = int(ended.read_text()), ended.stat().st_mtime_ns
        except (OSError, ValueError, Fault):
            return None
        return Exit(status, at_ns, (path / "held" / f"{id_}.d" / "oom").exists())

    def _alone(self, *words: str) -> Future[int]:
        """The exit status of `alone`, when it has ended."""
        command = (sys.executable, "-m", "workers.host.shim.alone", *words)
        process = os.posix_spawn(sys.executable, command, os.environ)
        descriptor, status = os.pidfd_open(process), Future[int]()

        def reap(_: int) -> None:
            self._loop.unwatch(descriptor)
            os.close(descriptor)
            status.set_result(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))

        self._loop.watch(descriptor, READ, reap)
        return status

    async def _ask(self, request: pb.PodRequest, patience: float | None = None) -> pb.PodReply:
        request.pod = self._sandbox
        while True:
            client = await self._connected(self._patience if patience is None else min(patience, self._patience))
            try:
                return await client.call(ASK, request, pb.PodReply)
            except CallFailed as failed:
                raise _refusal(failed) from failed
            except Temporary:
                client.close()

    async def _connected(self, patience: float) -> LoopClient:
        ends = monotonic() + patience
        while self._client is None or self._client.closed.is_set():
            if self._broken is not None:
                raise self._broken
            self._news.clear()
            try:
                async with self._loop.timeout(ends - monotonic()):
                    await self._news.wait()
            except TimeoutError as error:
                raise _nobody(patience) from error
        return self._client


def _streams(streams: Streams) -> pb.Streams:
    return pb.Streams(stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr, terminal=streams.terminal)


def _refusal(failed: CallFailed) -> Permanent:
    """The worker's answer as it is: its status, and its words, which it chose for containerd."""
    try:
        return Refusal(StatusCode(failed.status), failed.words)
    except ValueError:
        return Refusal(StatusCode.UNKNOWN, failed.words)


def _nobody(seconds: float) -> Temporary:
    return Temporary(
        Code.BUS_AWAY,
        "the node's worker does not answer",
        expected=f"a worker within {seconds:g} s",
        got="none",
        advice="see whether the node's worker runs, and its log (`enclave-cc status`)",
    )
