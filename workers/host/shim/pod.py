"""The seam between the shim and the rest of the system: what may be asked of a pod, and the values that cross.

An implementation answers from the pod's history (`bus_pod`); a test may answer from memory. Every method may be called
again with the same arguments: what was asked already is not asked twice, only its answer is awaited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Streams:
    """Paths of containerd's FIFOs, empty for none. `terminal`: one pseudo terminal instead of three streams."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class SandboxRequest:
    """A pod that containerd asks for. `bundle` is the directory with config.json; the names are Kubernetes'.

    `init_data_sha256` (hex) is the digest of the init-data that the pod wants its agent bound to; empty: the node's.
    `hold_seconds` is how long what fails is to be held; None: as long as the node says. `prefetch` refers to images.
    """

    bundle: str
    namespace: str
    name: str
    uid: str
    init_data_sha256: str
    hold_seconds: int | None = None
    prefetch: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """A container that containerd asks for in the pod. `image` is the reference as the pod's author wrote it."""

    id: str
    bundle: str
    name: str
    image: str
    process_sha256: str
    streams: Streams


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A command that containerd wants beside a container's workload, by its words alone. `id` is containerd's."""

    container: str
    id: str
    args: tuple[str, ...]
    streams: Streams


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its status or 128 + signal, and when, in nanoseconds since 1970.

    `out_of_memory`: the kernel had killed something of its container for the memory limit.
    """

    status: int
    at_ns: int
    out_of_memory: bool = False


class Pod(Protocol):
    """One pod. Methods that wait raise the launch's own diagnosis as a Fault once it has failed.

    A container is named by its id; the empty name is the sandbox itself. Waiting is bounded by the launch's deadlines
    (orchestrator.lifecycle), not here; a caller with less patience cancels.
    """

    async def run(self) -> None:
        """Stay connected until cancelled; nothing is answered before. What it cannot overcome, every call tells."""

    async def request_sandbox(self, request: SandboxRequest) -> int:
        """Ask for the sandbox and wait until it is there; its pause process's pid."""

    async def attested(self) -> None:
        """Wait until the pod's agent has been attested."""

    async def request_container(self, request: ContainerRequest) -> None:
        """Ask for a container and wait until its root file system is sealed."""

    async def start_container(self, container: str) -> int:
        """Ask for its start and wait until its workload runs; its first process's pid on this host."""

    async def exit_of(self, container: str) -> Exit:
        """Wait until the first process has ended; also returns for one that never ran and has been removed."""

    async def signal(self, container: str, number: int, *, everything: bool) -> None:
        """Send a signal to the first process, or to all. Raises Permanent(NOT_FOUND) when it has ended."""

    async def remove(self, container: str, reason: str) -> None:
        """Ask for the removal of everything made, and wait until nothing is left. Fine when nothing was made."""

    async def start_exec(self, request: ExecRequest) -> int:
        """Have the enclave judge and start a command; its pid on this host, 0 when it has ended already."""

    async def exit_of_exec(self, container: str, exec_id: str) -> Exit:
        """Wait until a started command has ended; killed, where its container ended and nobody is left to tell."""

    async def signal_exec(self, container: str, exec_id: str, number: int) -> None:
        """Send a signal to a started command. Raises Permanent(NOT_FOUND) when it has ended."""

    async def resize_exec(self, container: str, exec_id: str, rows: int, columns: int) -> None:
        """Give its terminal another size; with no `exec_id`, the workload's own."""

    async def forget_exec(self, container: str, exec_id: str) -> None:
        """Its status was taken."""

    async def pause(self, container: str) -> None:
        """Stop every process of a container where it is."""

    async def unpause(self, container: str) -> None:
        """Let them go on."""

    async def limit(self, container: str, resources: bytes) -> None:
        """Give a container other limits: `linux.resources` of an OCI configuration, in JSON."""
