"""The Task service: what containerd asks of one pod, said to the pod, and its answer said to containerd.

Peer: containerd api/runtime/task/v2, and v3, which is the same under another name; runtime/v2/shim.go for what
containerd does with each answer.

    containerd                        the pod
    Create of the sandbox             sandbox requested, until it is there
    Start of the sandbox              until attested
    Create of a container             container requested, until its root file system is sealed
    Start of a container              start requested, until its workload runs
    Kill, Delete                      a signal; removal, until nothing is left
    Exec and what names an exec id    see `execs`
    Pause, Resume, Update             what a host can do to a container by itself

- A launch that fails and is held lets the running call wait: it may be resumed, until the hold is over.
- A launch that fails answers the running call with its diagnosis. The task has then ended, with status 255: Kill finds
  nothing to kill, Wait returns, Delete removes what there is. containerd cleans up by exactly these three.
- Kill and Delete of one task take turns: containerd closes the connection after Delete, whoever else waits on it.
- A task that was never started has no process; killing it ends it here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import time_ns
from typing import Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass

from orchestrator.faults import Fault
from schemas.containerd import events_pb2, process_pb2, task3_pb2, types_pb2
from schemas.containerd import task_pb2 as pb
from workers.host.shim.bundle import Bundle, read_bundle
from workers.host.shim.bundle_log import log
from workers.host.shim.delete import ANSWER
from workers.host.shim.execs import Background, Events, Execs
from workers.host.shim.input import KeptInput
from workers.host.shim.loop import Event
from workers.host.shim.pod import ContainerRequest, Exit, Pod, SandboxRequest, Streams
from workers.host.shim.process import FAILED, SIGNALLED, Process
from workers.host.shim.rootfs import mount, unmount
from workers.host.shim.stats import metrics
from workers.host.shim.timestamp import timestamp
from workers.host.shim.ttrpc.answers import Method
from workers.host.shim.ttrpc.status import Refusal, StatusCode

_LAST_SIGNAL: Final = 64
_LONGEST_ID: Final = 128
_SERVICES: Final = tuple(file.DESCRIPTOR.services_by_name["Task"] for file in (pb, task3_pb2))
SERVICE: Final = _SERVICES[0].full_name


@dataclass(slots=True, kw_only=True)
class Task(Process):
    """One container as containerd sees it."""

    bundle: Bundle
    input: KeptInput
    created: bool = False
    paused: bool = False

    @property
    def status(self) -> process_pb2.Status:
        """As every process's; the host can also stop one where it is."""
        own = Process.status.__get__(self)
        return process_pb2.PAUSED if self.paused and own == process_pb2.RUNNING else own


class TaskService:
    """Serves one pod. `idle` is set when containerd has asked for the shim's end and no task is left."""

    def __init__(self, sandbox: str, pod: Pod, publisher: Events, background: Background) -> None:
        """`sandbox` is the id of the pod's sandbox; `background` runs what waits for exits."""
        self._sandbox = sandbox
        self._pod = pod
        self._publisher = publisher
        self._background = background
        self._tasks: dict[str, Task] = {}
        self._execs = Execs(pod, publisher, background)
        self.idle = Event()
        self.complete: Callable[[Path], None] | None = None
        """Set where the sandbox is the shim's to make: called with each container's bundle before it is read."""

    def methods(self) -> Mapping[str, Method]:
        """What a TTRPC server needs: each RPC is the method of its name in lower case."""
        return {
            f"{service.full_name}/{rpc.name}": Method(GetMessageClass(rpc.input_type), getattr(self, rpc.name.lower()))
            for service in _SERVICES
            for rpc in service.methods
        }

    async def create(self, request: pb.CreateTaskRequest) -> pb.CreateTaskResponse:
        """Ask the pod for the sandbox, or for one of its containers."""
        if request.id in self._tasks:
            raise Refusal(StatusCode.ALREADY_EXISTS, f"task {request.id} already exists")
        if not request.id:
            raise Refusal(StatusCode.INVALID_ARGUMENT, "a task has an id: the empty name is the sandbox's own")
        if request.checkpoint:
            raise Refusal(StatusCode.UNIMPLEMENTED, "an enclave cannot be restored from a checkpoint")
        streams = Streams(request.stdin, request.stdout, request.stderr, request.terminal)
        if self.complete is not None and request.id != self._sandbox:
            self.complete(Path(request.bundle))
        bundle = read_bundle(Path(request.bundle))
        self._check_place(request.id, bundle)
        # Of an earlier task in this bundle: it must not speak for this one, should this shim be lost.
        (bundle.path / ANSWER).unlink(missing_ok=True)
        task = self._tasks[request.id] = Task(bundle=bundle, streams=streams, input=KeptInput(streams.stdin))
        try:
            await self._request(request.id, task, request.rootfs)
        except BaseException:
            self._end(request.id, task, Exit(FAILED, time_ns()))
            raise
        if task.exit is not None:
            # Killed or deleted meanwhile, which was told: its creation must not be told after its end.
            raise Refusal(StatusCode.FAILED_PRECONDITION, f"task {request.id} ended while it was being created")
        task.created = True
        self._publisher.publish(
            events_pb2.TaskCreate(
                container_id=request.id,
                bundle=request.bundle,
                rootfs=request.rootfs,
                io=events_pb2.TaskIO(
                    stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr, terminal=streams.terminal
                ),
                pid=task.pid,
            )
        )
        if task.pid:
            self._background.create_task(self._watch(request.id, task))
        return pb.CreateTaskResponse(pid=task.pid)

    async def start(self, request: pb.StartRequest) -> pb.StartResponse:
        """Wait until the sandbox is attested, or ask for the container's start and wait until it runs."""
        task = self._task(request.id)
        if request.exec_id:
            return await self._execs.start(request.id, request.exec_id)
        if not task.created and task.exit is None:
            raise Refusal(StatusCode.FAILED_PRECONDITION, f"task {request.id} is still being created")
        if task.started or task.exit is not None:
            raise Refusal(StatusCode.FAILED_PRECONDITION, f"task {request.id} was started before")
        task.started = True
        try:
            if task.bundle.is_sandbox:
                await self._pod.attested()
            else:
                task.pid = await self._pod.start_container(request.id)
        except BaseException:
            self._end(request.id, task, Exit(FAILED, time_ns()))
            raise
        if task.exit is not None:
            raise Refusal(StatusCode.FAILED_PRECONDITION, f"task {request.id} ended while it was being started")
        self._publisher.publish(events_pb2.TaskStart(container_id=request.id, pid=task.pid))
        if not task.bundle.is_sandbox:
            # Not before: a process may end at once, and its exit must not be told before its start.
            self._background.create_task(self._watch(request.id, task))
        return pb.StartResponse(pid=task.pid)

    async def kill(self, request: pb.KillRequest) -> Empty:
        """Send a signal, or end a task that has no process."""
        task = self._task(request.id)
        if request.signal > _LAST_SIGNAL:
            raise Refusal(StatusCode.INVALID_ARGUMENT, f"there is no signal {request.signal}")
        if request.exec_id:
            return await self._execs.kill(request.id, request.exec_id, request.signal)
        async with task.turn:
            if task.exit is not None:
                raise Refusal(StatusCode.NOT_FOUND, f"the process of {request.id} has ended")
            if task.pid:
                container = "" if task.bundle.is_sandbox else request.id
                await self._pod.signal(container, request.signal, everything=request.all)
            elif request.signal:  # 0 only asks whether there is somebody
                self._end(request.id, task, Exit(SIGNALLED + request.signal, time_ns()))
        return Empty()

    async def delete(self, request: pb.DeleteRequest) -> pb.DeleteResponse:
        """Remove a task that has ended or was never started, and everything that was made for it."""
        task = self._task(request.id)
        if request.exec_id:
            return await self._execs.delete(request.id, request.exec_id)
        async with task.turn:
            if self._tasks.get(request.id) is not task:
                # Deleted while we waited for our turn; what has its name by now is not what was asked about.
                raise Refusal(StatusCode.NOT_FOUND, f"task {request.id} has been deleted")
            if task.started and task.exit is None:
                raise Refusal(StatusCode.FAILED_PRECONDITION, f"the process of {request.id} is running")
            container = "" if task.bundle.is_sandbox else request.id
            await self._pod.remove(container, "removed by containerd")
            unmount(task.bundle.path / "rootfs")
            ended = task.exit or Exit(SIGNALLED + 9, time_ns())
            self._end(request.id, task, ended)
            self._execs.drop(request.id)
            del self._tasks[request.id]
            self._publisher.publish(
                events_pb2.TaskDelete(
                    container_id=request.id,
                    pid=task.pid,
                    exit_status=ended.status,
                    exited_at=timestamp(ended.at_ns),
                )
            )
        reply = pb.DeleteResponse(pid=task.pid, exit_status=ended.status, exited_at=timestamp(ended.at_ns))
        with contextlib.suppress(FileNotFoundError):
            (task.bundle.path / ANSWER).write_bytes(reply.SerializeToString())
        return reply

    async def wait(self, request: pb.WaitRequest) -> pb.WaitResponse:
        """Wait until the task, or a command beside it, has ended."""
        return await self._process(request.id, request.exec_id).waited()

    async def state(self, request: pb.StateRequest) -> pb.StateResponse:
        """Everything about a task, or a command beside it."""
        bundle = str(self._task(request.id).bundle.path)
        return self._process(request.id, request.exec_id).state(request.id, request.exec_id, bundle)

    async def connect(self, request: pb.ConnectRequest) -> pb.ConnectResponse:
        """Who we are; also how containerd looks whether we live."""
        task = self._tasks.get(request.id)
        return pb.ConnectResponse(shim_pid=os.getpid(), task_pid=task.pid if task else 0)

    async def pids(self, request: pb.PidsRequest) -> pb.PidsResponse:
        """What containerd started: the first process and the commands. Nothing else is the host's to list."""
        task = self._task(request.id)
        alive = [task.pid, *self._execs.pids(request.id)] if task.pid and task.exit is None else []
        return pb.PidsResponse(processes=[process_pb2.ProcessInfo(pid=pid) for pid in alive])

    async def stats(self, request: pb.StatsRequest) -> pb.StatsResponse:
        """What the container's cgroup has used."""
        task = self._task(request.id)
        try:
            return pb.StatsResponse(stats=metrics(task.pid))
        except OSError as error:
            raise Refusal(StatusCode.NOT_FOUND, f"{request.id} has no process to measure") from error

    async def exec(self, request: pb.ExecProcessRequest) -> Empty:
        """Remember a command for a container that runs; the enclave judges it when it is to start."""
        task = self._running(request.id)
        if task.bundle.is_sandbox:
            raise Refusal(
                StatusCode.FAILED_PRECONDITION, "a pod's sandbox runs no commands: name one of its containers"
            )
        if not request.exec_id:
            raise Refusal(StatusCode.INVALID_ARGUMENT, "an exec has an id")
        if task.paused:
            raise Refusal(StatusCode.FAILED_PRECONDITION, f"{request.id} is paused, and its enclave with it")
        return self._execs.add(request)

    async def resizepty(self, request: pb.ResizePtyRequest) -> Empty:
        """Of a command's terminal, or of the workload's own."""
        task = self._task(request.id)
        if request.exec_id:
            return await self._execs.resize(request.id, request.exec_id, request.height, request.width)
        if task.streams.terminal and task.started and task.exit is None:
            await self._pod.resize_exec(request.id, "", request.height, request.width)
        return Empty()

    async def pause(self, request: pb.PauseRequest) -> Empty:
        """Stop a container's processes where they are: a host's power, with or without this call."""
        task = self._running(request.id)
        await self._pod.pause(_runc_name(task, request.id))
        task.paused = True
        self._publisher.publish(events_pb2.TaskPaused(container_id=request.id))
        return Empty()

    async def resume(self, request: pb.ResumeRequest) -> Empty:
        """Let them go on."""
        task = self._running(request.id)
        await self._pod.unpause(_runc_name(task, request.id))
        task.paused = False
        self._publisher.publish(events_pb2.TaskResumed(container_id=request.id))
        return Empty()

    async def update(self, request: pb.UpdateTaskRequest) -> Empty:
        """Give a container's cgroup other limits. What its enclave was promised is not touched by that."""
        task = self._running(request.id)
        if not request.resources.type_url.endswith("/LinuxResources"):
            raise Refusal(StatusCode.INVALID_ARGUMENT, "LinuxResources of the OCI runtime specification are expected")
        await self._pod.limit(_runc_name(task, request.id), request.resources.value)
        return Empty()

    async def checkpoint(self, request: pb.CheckpointTaskRequest) -> Empty:
        """Refused, always."""
        self._task(request.id)
        raise Refusal(
            StatusCode.UNIMPLEMENTED, "an enclave cannot be checkpointed: its memory is nobody's to write to a disk"
        )

    async def closeio(self, request: pb.CloseIORequest) -> Empty:
        """The process reads containerd's FIFO itself and sees its end, when nobody here keeps it open."""
        self._process(request.id, request.exec_id)
        if not request.exec_id:
            self._task(request.id).input.close()
        return Empty()

    async def shutdown(self, request: pb.ShutdownRequest) -> Empty:
        """End this shim once no task is left; containerd asks after each Delete."""
        if request.now or not self._tasks:
            self.idle.set()
        return Empty()

    def _check_place(self, id_: str, bundle: Bundle) -> None:
        if bundle.sandbox_id != self._sandbox:
            raise Refusal(StatusCode.INVALID_ARGUMENT, f"this shim serves pod {self._sandbox}, not {bundle.sandbox_id}")
        if bundle.is_sandbox != (id_ == self._sandbox):
            raise Refusal(StatusCode.INVALID_ARGUMENT, f"{id_} names another container than its bundle")
        if bundle.is_sandbox:
            return
        sandbox = self._tasks.get(self._sandbox)
        # What nobody has asked the sandbox of would wait for it for ever.
        if sandbox is None or not sandbox.created or sandbox.exit is not None:
            raise Refusal(StatusCode.FAILED_PRECONDITION, f"pod {self._sandbox} has no sandbox for {id_}")

    def _task(self, id_: str) -> Task:
        task = self._tasks.get(id_)
        if task is None:
            raise Refusal(StatusCode.NOT_FOUND, f"no process {id_[:_LONGEST_ID]} is known here")
        return task

    def _process(self, id_: str, exec_id: str) -> Process:
        task = self._task(id_)
        return self._execs.find(id_, exec_id) if exec_id else task

    def _running(self, id_: str) -> Task:
        task = self._task(id_)
        if not task.pid or not task.started or task.exit is not None:
            raise Refusal(StatusCode.FAILED_PRECONDITION, f"the process of {id_} does not run")
        return task

    async def _request(self, id_: str, task: Task, mounts: Iterable[types_pb2.Mount]) -> None:
        bundle = task.bundle
        if bundle.is_sandbox:
            mount(mounts, bundle.path / "rootfs")
            request = SandboxRequest(
                str(bundle.path),
                bundle.namespace,
                bundle.pod_name,
                bundle.pod_uid,
                bundle.init_data_sha256,
                bundle.hold_seconds,
                bundle.prefetch,
            )
            task.pid = await self._pod.request_sandbox(request)
        else:
            await self._pod.request_container(
                ContainerRequest(id_, str(bundle.path), bundle.name, bundle.image, bundle.process_sha256, task.streams)
            )

    async def _watch(self, id_: str, task: Task) -> None:
        """Tell containerd when a task's process ends by itself; it may have been told already, by a failed start."""
        try:
            ended = await self._pod.exit_of("" if task.bundle.is_sandbox else id_)
        except Fault as fault:
            log("error", "exit unknown", id=id_, diagnosis=fault.diagnostics())
            ended = Exit(FAILED, time_ns())
        self._end(id_, task, ended)

    def _end(self, id_: str, task: Task, ended: Exit) -> None:
        """Once a task: remember its exit, wake who waits, and tell containerd of a process that was there."""
        if task.exit is not None:
            return
        task.exit = ended
        task.ended.set()
        task.input.close()
        if ended.out_of_memory:
            self._publisher.publish(events_pb2.TaskOOM(container_id=id_))
        if task.pid:
            self._publisher.publish(
                events_pb2.TaskExit(
                    container_id=id_,
                    id=id_,
                    pid=task.pid,
                    exit_status=ended.status,
                    exited_at=timestamp(ended.at_ns),
                )
            )


def _runc_name(task: Task, id_: str) -> str:
    """What a pod calls it: the sandbox has no name of its own."""
    return "" if task.bundle.is_sandbox else id_
