"""Who can be killed while a pod is launched, and how its process is found at that moment."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.e2e.cluster import Cluster
from workers.host.launch_agent import agent_id
from workers.host.shim.socket_address import socket_path

CONTAINERD_NAMESPACE: Final = "k8s.io"
APPEARS_WITHIN: Final = 10.0


class Victim(StrEnum):
    """The first three are the stack's, and supervisord starts them again; the others are a pod's own."""

    ORCHESTRATOR = "orchestrator"
    WORKER = "worker"
    BUS = "bus"
    AGENT = "agent"
    SHIM = "shim"

    @property
    def is_of_the_stack(self) -> bool:
        """Whether it comes back."""
        return self not in (Victim.AGENT, Victim.SHIM)


def pids_of_the_stack(cluster: Cluster) -> dict[str, int]:
    """By name; to be looked up before a launch, because it takes longer than a step of it."""
    return {state.name: state.pid for state in cluster.stack.supervisor.states()}


def kill(pid: int) -> None:
    """`kill -9`."""
    os.kill(pid, signal.SIGKILL)


def shim_of(cluster: Cluster, pod: str) -> int:
    """The pid of the process that holds the pod's shim's socket: no command line says it of a forked one."""
    path = socket_path(str(cluster.layout.containerd), CONTAINERD_NAMESPACE, pod)
    lines = Path("/proc/net/unix").read_text().splitlines()
    sockets = {f"socket:[{line.split()[6]}]" for line in lines if line.endswith(f" {path}")}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(descriptor.readlink()) in sockets:
                return int(descriptor.parts[2])
    raise AssertionError(f"nobody listens at {path}")


def agent_of(cluster: Cluster, pod: str) -> int:
    """The pid of the pod's agent as soon as runc has created it; it may not have been started yet."""
    file = cluster.layout.run / "pods" / pod / "agent" / "pid"
    ends = time.monotonic() + APPEARS_WITHIN
    while time.monotonic() < ends:
        with suppress(OSError, ValueError):
            return int(file.read_text())
        time.sleep(0.001)
    raise AssertionError(f"{agent_id(pod)} did not appear")
