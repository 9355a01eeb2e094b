"""A small kubelet: the CRI calls that run a pod, typed, over containerd's socket.

Zone: host (it stands where a kubelet stands). Peer: Kubernetes cri-api, runtime.v1.
Deadlines are a kubelet's: two minutes for everything that launches, ten seconds for questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.message import Message

from orchestrator.faults import Code, Permanent, Temporary
from schemas.containerd import cri_pb2

LAUNCH_TIMEOUT: Final = 120.0
QUESTION_TIMEOUT: Final = 10.0
_MAX_MESSAGE: Final = 16 << 20
_Reply = TypeVar("_Reply", bound=Message)


class ContainerState(Enum):
    """Where a container is, as the CRI sees it."""

    CREATED = cri_pb2.CONTAINER_CREATED
    RUNNING = cri_pb2.CONTAINER_RUNNING
    EXITED = cri_pb2.CONTAINER_EXITED
    UNKNOWN = cri_pb2.CONTAINER_UNKNOWN


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that runs: containerd's id of its sandbox, and the configuration that each container must repeat."""

    id: str
    name: str
    config: cri_pb2.PodSandboxConfig


@dataclass(frozen=True, slots=True)
class PodStatus:
    """A sandbox as it is now. `ip` is empty without a network of its own."""

    ready: bool
    ip: str
    created_ns: int


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """A container as it is now. Times are nanoseconds since 1970, 0 for not yet; `log` is where its output goes."""

    state: ContainerState
    exit_code: int
    reason: str
    message: str
    started_ns: int
    finished_ns: int
    log: Path


@dataclass(frozen=True, slots=True)
class HostMount:
    """A file or directory of the node's for a container: how a kubelet passes every volume."""

    source: Path
    destination: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What to run. Empty `command` and `args` mean the image's own entry point; `capabilities`, without CAP_, are added
    to the usual ones.
    """

    name: str
    image: str
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = 0
    terminal: bool = False
    mounts: Sequence[HostMount] = ()
    stdin: bool = False
    stdin_once: bool = False
    capabilities: Sequence[str] = ()


class Kubelet:
    """A CRI client. Every method raises Temporary(RUNTIME) when containerd does not answer in time or is away, and
    Permanent(RUNTIME) with containerd's words for everything that it refuses.
    """

    def __init__(self, address: Path, *, handler: str, log_directory: Path | None = None) -> None:
        """`address` is containerd's socket, `handler` the runtime of `run_pod`; connects when first used.

        `log_directory` holds a directory for each pod; without it containers have no log file.
        """
        self._handler = handler
        self._logs = log_directory
        options = [("grpc.max_receive_message_length", _MAX_MESSAGE)]
        # Pods may be started with proxy variables set for the machine: a Unix socket is never behind one.
        self._channel = grpc.insecure_channel(f"unix://{address}", options=[*options, ("grpc.enable_http_proxy", 0)])

    def close(self) -> None:
        """Drop the connection."""
        self._channel.close()

    def ready(self) -> bool:
        """Whether containerd's runtime and pod network both are."""
        reply = self._ask(cri_pb2.StatusRequest(), cri_pb2.StatusResponse)
        return all(condition.status for condition in reply.status.conditions)

    def version(self) -> str:
        """containerd's own version, without the `v` that some builds begin it with."""
        return self._ask(cri_pb2.VersionRequest(), cri_pb2.VersionResponse).runtime_version.removeprefix("v")

    def pull(self, image: str, pod: Pod | None = None) -> str:
        """Pull an image and return containerd's reference of it (the digest of its configuration)."""
        request = cri_pb2.PullImageRequest(image=self._image(image))
        if pod is not None:
            request.sandbox_config.CopyFrom(pod.config)
        return self._launch(request, cri_pb2.PullImageResponse, service="ImageService").image_ref

    def has_image(self, image: str) -> bool:
        """Whether containerd has it."""
        request = cri_pb2.ImageStatusRequest(image=self._image(image))
        return self._ask(request, cri_pb2.ImageStatusResponse, service="ImageService").HasField("image")

    def remove_image(self, image: str) -> None:
        """Remove an image and wait for the garbage collection that follows."""
        request = cri_pb2.RemoveImageRequest(image=self._image(image))
        self._launch(request, cri_pb2.RemoveImageResponse, service="ImageService")

    def run_pod(
        self,
        name: str,
        *,
        namespace: str = "default",
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Pod:
        """Create and start a sandbox; returns when it is attested (or, for runc, when it runs)."""
        config = cri_pb2.PodSandboxConfig(
            metadata=cri_pb2.PodSandboxMetadata(name=name, namespace=namespace, uid=str(uuid4()), attempt=0),
            hostname=name,
            labels=labels or {},
            annotations=annotations or {},
            linux=cri_pb2.LinuxPodSandboxConfig(),
        )
        if self._logs is not None:
            directory = self._logs / f"{namespace}_{name}_{config.metadata.uid}"
            directory.mkdir(parents=True)
            config.log_directory = str(directory)
        request = cri_pb2.RunPodSandboxRequest(config=config, runtime_handler=self._handler)
        return Pod(self._launch(request, cri_pb2.RunPodSandboxResponse).pod_sandbox_id, name, config)

    def pod_status(self, pod: Pod) -> PodStatus:
        """The sandbox as it is now."""
        request = cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=pod.id)
        status = self._ask(request, cri_pb2.PodSandboxStatusResponse).status
        return PodStatus(status.state == cri_pb2.SANDBOX_READY, status.network.ip, status.created_at)

    def pods(self) -> tuple[str, ...]:
        """The ids of all sandboxes, ready or not."""
        reply = self._ask(cri_pb2.ListPodSandboxRequest(), cri_pb2.ListPodSandboxResponse)
        return tuple(item.id for item in reply.items)

    def stop_pod(self, pod_id: str) -> None:
        """Stop a sandbox and all that runs in it; fine when it is stopped already."""
        self._launch(cri_pb2.StopPodSandboxRequest(pod_sandbox_id=pod_id), cri_pb2.StopPodSandboxResponse)

    def remove_pod(self, pod_id: str) -> None:
        """Stop if needed, and remove; fine when there is none."""
        self._launch(cri_pb2.RemovePodSandboxRequest(pod_sandbox_id=pod_id), cri_pb2.RemovePodSandboxResponse)

    def create_container(self, pod: Pod, spec: ContainerSpec) -> str:
        """Create a container in a pod; returns its id. The image must have been pulled."""
        config = cri_pb2.ContainerConfig(
            metadata=cri_pb2.ContainerMetadata(name=spec.name),
            image=self._image(spec.image),
            command=spec.command,
            args=spec.args,
            envs=[cri_pb2.KeyValue(key=key, value=value.encode()) for key, value in spec.environment.items()],
            tty=spec.terminal,
            mounts=[
                cri_pb2.Mount(container_path=mount.destination, host_path=str(mount.source), readonly=mount.read_only)
                for mount in spec.mounts
            ],
            stdin=spec.stdin,
            stdin_once=spec.stdin_once,
            linux=cri_pb2.LinuxContainerConfig(),
        )
        if self._logs is not None:
            config.log_path = f"{spec.name}.log"
        config.linux.resources.memory_limit_in_bytes = spec.memory_bytes
        config.linux.security_context.capabilities.add_capabilities.extend(spec.capabilities)
        request = cri_pb2.CreateContainerRequest(pod_sandbox_id=pod.id, config=config, sandbox_config=pod.config)
        return self._launch(request, cri_pb2.CreateContainerResponse).container_id

    def start_container(self, container_id: str, patience: float = LAUNCH_TIMEOUT) -> None:
        """Start a created container; returns when its first process runs, or fails after `patience` seconds."""
        request = cri_pb2.StartContainerRequest(container_id=container_id)
        self._call("RuntimeService", request, cri_pb2.StartContainerResponse, patience)

    def stop_container(self, container_id: str, grace_seconds: int = 10) -> None:
        """SIGTERM, and SIGKILL after the grace."""
        request = cri_pb2.StopContainerRequest(container_id=container_id, timeout=grace_seconds)
        self._call("RuntimeService", request, cri_pb2.StopContainerResponse, LAUNCH_TIMEOUT + grace_seconds)

    def remove_container(self, container_id: str) -> None:
        """Stop if needed, and remove; fine when there is none."""
        self._launch(cri_pb2.RemoveContainerRequest(container_id=container_id), cri_pb2.RemoveContainerResponse)

    def container_status(self, container_id: str) -> ContainerStatus:
        """The container as it is now."""
        request = cri_pb2.ContainerStatusRequest(container_id=container_id)
        status = self._ask(request, cri_pb2.ContainerStatusResponse).status
        return ContainerStatus(
            ContainerState(status.state),
            status.exit_code,
            status.reason,
            status.message,
            status.started_at,
            status.finished_at,
            Path(status.log_path),
        )

    def memory_bytes(self, container_id: str) -> int:
        """The working set that a kubelet would evict by."""
        request = cri_pb2.ContainerStatsRequest(container_id=container_id)
        return self._ask(request, cri_pb2.ContainerStatsResponse).stats.memory.working_set_bytes.value

    def exec(self, container_id: str, command: Sequence[str], seconds: int = 60) -> tuple[int, bytes, bytes]:
        """Run a command in a container: its exit code, output and errors. An enclave's policy may refuse.

        After `seconds` it is killed, and that is a fault.
        """
        request = cri_pb2.ExecSyncRequest(container_id=container_id, cmd=command, timeout=seconds)
        reply = self._launch(request, cri_pb2.ExecSyncResponse)
        return reply.exit_code, reply.stdout, reply.stderr

    def exec_url(self, container_id: str, command: Sequence[str], *, terminal: bool = False) -> str:
        """Where to connect for a command's three streams (`kubectl exec -i`)."""
        request = cri_pb2.ExecRequest(
            container_id=container_id, cmd=command, tty=terminal, stdin=True, stdout=True, stderr=not terminal
        )
        return self._ask(request, cri_pb2.ExecResponse).url

    def attach_url(self, container_id: str, *, stdin: bool = False, terminal: bool = False) -> str:
        """Where to connect for what a container writes from now on, and for what it reads."""
        request = cri_pb2.AttachRequest(
            container_id=container_id, stdin=stdin, stdout=True, stderr=not terminal, tty=terminal
        )
        return self._ask(request, cri_pb2.AttachResponse).url

    def forward_url(self, pod_id: str, port: int) -> str:
        """Where to connect for a port on a pod's loopback."""
        return self._ask(
            cri_pb2.PortForwardRequest(pod_sandbox_id=pod_id, port=[port]), cri_pb2.PortForwardResponse
        ).url

    def limit(self, container_id: str, memory_bytes: int) -> None:
        """Give a running container another memory limit."""
        request = cri_pb2.UpdateContainerResourcesRequest(container_id=container_id)
        request.linux.memory_limit_in_bytes = memory_bytes
        self._ask(request, cri_pb2.UpdateContainerResourcesResponse)

    def remove_everything(self) -> None:
        """Stop and remove every pod of this containerd."""
        for pod_id in self.pods():
            self.stop_pod(pod_id)
            self.remove_pod(pod_id)

    def _image(self, reference: str) -> cri_pb2.ImageSpec:
        return cri_pb2.ImageSpec(image=reference, runtime_handler=self._handler)

    def _ask(self, request: Message, reply: type[_Reply], service: str = "RuntimeService") -> _Reply:
        return self._call(service, request, reply, QUESTION_TIMEOUT)

    def _launch(self, request: Message, reply: type[_Reply], service: str = "RuntimeService") -> _Reply:
        return self._call(service, request, reply, LAUNCH_TIMEOUT)

    def _call(self, service: str, request: Message, reply: type[_Reply], seconds: float) -> _Reply:
        method = request.DESCRIPTOR.name.removesuffix("Request")
        call: Callable[..., _Reply] = self._channel.unary_unary(
            f"/runtime.v1.{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        try:
            return call(request, timeout=seconds)
        except grpc.RpcError as error:
            raise _fault(method, seconds, error) from error


def _fault(method: str, seconds: float, error: grpc.RpcError) -> Permanent | Temporary:
    status, words = error.code(), error.details() or ""
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Temporary(Code.RUNTIME, f"containerd's {method} took too long", expected=f"an answer in {seconds:g} s")
    if status is grpc.StatusCode.UNAVAILABLE:
        return Temporary(
            Code.RUNTIME, f"containerd does not answer {method}", expected="a running containerd", got=words
        )
    return Permanent(Code.RUNTIME, f"containerd refused {method}: {words}", got=status.name)
