"""The Sandbox service: a pod's sandbox for a containerd that leaves it to the shim (`sandboxer = "shim"`).

Peer: containerd 2 api/runtime/sandbox/v1; plugins/sandbox/controller.go for what containerd does with each answer. The
sandbox is what it is for Task: a pause container, which only the shim knows of here, and everything that belongs to it.

    CreateSandbox      its bundle, the files that its containers are to find, and Create of it
    StartSandbox       Start: until the pod's agent is attested
    StopSandbox        Kill, and Delete: until nothing of the pod is left on the node
    WaitSandbox        Wait
    SandboxMetrics     Stats
    ShutdownSandbox    what StopSandbox does, and the end of the shim

Between Stop and Shutdown, as long as a kubelet keeps a dead pod, the shim answers that it is not ready, and when and
how it ended. One of a containerd that makes the sandbox by Task has none here: NOT_FOUND.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from signal import SIGKILL
from time import time_ns
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from orchestrator.faults import Permanent, Temporary
from schemas.containerd import sandbox_pb2 as pb
from schemas.containerd import task_pb2, types_pb2
from workers.host.shim import sandbox_files
from workers.host.shim.loop import Lock
from workers.host.shim.process import FAILED
from workers.host.shim.task import TaskService
from workers.host.shim.timestamp import timestamp
from workers.host.shim.ttrpc.answers import Method
from workers.host.shim.ttrpc.status import Refusal, StatusCode, status_of, words_of

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["Sandbox"]
_CONFIGURATION: Final = "PodSandboxConfig"
_READY: Final = "SANDBOX_READY"
_NOT_READY: Final = "SANDBOX_NOTREADY"
_GO_NAMES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class SandboxService:
    """Serves one pod's sandbox through the Task service of the same shim."""

    def __init__(self, sandbox: str, tasks: TaskService) -> None:
        """`sandbox` is the pod's id."""
        self._sandbox = sandbox
        self._tasks = tasks
        self._created_ns = 0
        self._ended: task_pb2.DeleteResponse | None = None
        self._turn = Lock()

    def methods(self) -> Mapping[str, Method]:
        """What a TTRPC server needs: each RPC is the method of its name in lower case."""
        return {
            f"{_SERVICE.full_name}/{rpc.name}": Method(GetMessageClass(rpc.input_type), getattr(self, rpc.name.lower()))
            for rpc in _SERVICE.methods
        }

    async def createsandbox(self, request: pb.CreateSandboxRequest) -> pb.CreateSandboxResponse:
        """Make the bundle of a pause container where containerd has brought none, and ask the pod for its sandbox."""
        if request.sandbox_id != self._sandbox:
            raise Refusal(StatusCode.INVALID_ARGUMENT, f"this shim serves pod {self._sandbox}")
        if self._created_ns:
            raise Refusal(StatusCode.ALREADY_EXISTS, f"sandbox {self._sandbox} already exists")
        create = task_pb2.CreateTaskRequest(id=self._sandbox, bundle=request.bundle_path, rootfs=request.rootfs)
        if not (Path(request.bundle_path) / "config.json").exists():
            create.rootfs.append(_write_bundle(request))
            self._tasks.complete = partial(sandbox_files.mount_into, sandbox=Path(request.bundle_path))
        self._created_ns = time_ns()
        await self._tasks.create(create)
        return pb.CreateSandboxResponse()

    async def startsandbox(self, request: pb.StartSandboxRequest) -> pb.StartSandboxResponse:
        """Wait until the pod is attested."""
        self._mine(request.sandbox_id)
        reply = await self._tasks.start(task_pb2.StartRequest(id=self._sandbox))
        return pb.StartSandboxResponse(pid=reply.pid, created_at=timestamp(self._created_ns))

    async def platform(self, request: pb.PlatformRequest) -> pb.PlatformResponse:
        """This machine's: what runs in an enclave is made for the processor."""
        self._mine(request.sandbox_id)
        machine = os.uname().machine
        return pb.PlatformResponse(
            platform=types_pb2.Platform(os="linux", architecture=_GO_NAMES.get(machine, machine))
        )

    async def stopsandbox(self, request: pb.StopSandboxRequest) -> pb.StopSandboxResponse:
        """End the pause container at once, since nobody in it has anything to finish, and remove what is the pod's."""
        self._mine(request.sandbox_id)
        await self._stop()
        return pb.StopSandboxResponse()

    async def waitsandbox(self, request: pb.WaitSandboxRequest) -> pb.WaitSandboxResponse:
        """Wait until it has ended, by itself or because it was stopped."""
        self._mine(request.sandbox_id)
        ended = self._ended or await self._tasks.wait(task_pb2.WaitRequest(id=self._sandbox))
        return pb.WaitSandboxResponse(exit_status=ended.exit_status, exited_at=ended.exited_at)

    async def sandboxstatus(self, request: pb.SandboxStatusRequest) -> pb.SandboxStatusResponse:
        """Whether it is there, in the CRI's words."""
        self._mine(request.sandbox_id)
        reply = pb.SandboxStatusResponse(
            sandbox_id=self._sandbox, state=_NOT_READY, created_at=timestamp(self._created_ns)
        )
        if self._ended is not None:
            reply.exited_at.CopyFrom(self._ended.exited_at)
            return reply
        state = await self._tasks.state(task_pb2.StateRequest(id=self._sandbox))
        if state.HasField("exited_at"):
            reply.exited_at.CopyFrom(state.exited_at)
        elif state.pid:
            reply.state, reply.pid = _READY, state.pid
        return reply

    async def pingsandbox(self, request: pb.PingRequest) -> pb.PingResponse:
        """Whether there is one."""
        self._mine(request.sandbox_id)
        return pb.PingResponse()

    async def shutdownsandbox(self, request: pb.ShutdownSandboxRequest) -> pb.ShutdownSandboxResponse:
        """Remove what is left of the pod, and end this shim; also where there never was a sandbox."""
        if self._created_ns:
            self._mine(request.sandbox_id)
            await self._stop()
        await self._tasks.shutdown(task_pb2.ShutdownRequest(id=self._sandbox, now=True))
        return pb.ShutdownSandboxResponse()

    async def sandboxmetrics(self, request: pb.SandboxMetricsRequest) -> pb.SandboxMetricsResponse:
        """What the pause container's cgroup has used."""
        self._mine(request.sandbox_id)
        used = await self._tasks.stats(task_pb2.StatsRequest(id=self._sandbox))
        metric = types_pb2.Metric(timestamp=timestamp(time_ns()), id=self._sandbox, data=used.stats)
        return pb.SandboxMetricsResponse(metrics=metric)

    def _mine(self, sandbox: str) -> None:
        if sandbox != self._sandbox or not self._created_ns:
            raise Refusal(StatusCode.NOT_FOUND, "there is no such sandbox here")

    async def _stop(self) -> None:
        """Once: who comes while it is being stopped waits for that."""
        async with self._turn:
            if self._ended is not None:
                return
            try:
                await self._kill()
                await self._tasks.wait(task_pb2.WaitRequest(id=self._sandbox))
                self._ended = await self._tasks.delete(task_pb2.DeleteRequest(id=self._sandbox))
            except Temporary as fault:
                # Not UNAVAILABLE: containerd takes that for a shim that has gone, and the sandbox for stopped.
                raise Refusal(StatusCode.DEADLINE_EXCEEDED, words_of(fault), fault.code) from fault
            except Permanent as fault:
                if status_of(fault) is not StatusCode.NOT_FOUND:
                    raise
                # Its creation was refused: nothing was made.
                self._ended = task_pb2.DeleteResponse(exit_status=FAILED, exited_at=timestamp(time_ns()))

    async def _kill(self) -> None:
        """Fine where it has ended already."""
        try:
            await self._tasks.kill(task_pb2.KillRequest(id=self._sandbox, signal=SIGKILL))
        except Permanent as fault:
            if status_of(fault) is not StatusCode.NOT_FOUND:
                raise


def _write_bundle(request: pb.CreateSandboxRequest) -> types_pb2.Mount:
    """Write it; what is to be mounted as its root. Raises Refusal where containerd did not say what pod it is for."""
    # Only where the sandbox is ours to make: these messages are the CRI's, and no other pod's shim has use for them.
    from schemas.containerd.cri_pb2 import PodSandboxConfig  # noqa: PLC0415
    from workers.host.shim import sandbox_bundle  # noqa: PLC0415

    if request.options.type_url.rpartition("/")[2].rpartition(".")[2] != _CONFIGURATION:
        raise Refusal(StatusCode.INVALID_ARGUMENT, f"a sandbox's options are the CRI's {_CONFIGURATION}")
    try:
        config = PodSandboxConfig.FromString(request.options.value)
    except DecodeError as error:
        raise Refusal(StatusCode.INVALID_ARGUMENT, f"the {_CONFIGURATION} does not parse") from error
    bundle = Path(request.bundle_path)
    sandbox_bundle.write(bundle, request.sandbox_id, request.netns_path, config)
    sandbox_files.write(bundle, config)
    return sandbox_bundle.ROOTFS
