"""Whether containerd, runc, the processes of this machine and the history say the same of what runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.cri import ContainerState, Pod, PodStatus
from orchestrator.faults import Permanent
from orchestrator.launch import Launch
from orchestrator.lifecycle import State
from schemas.containerd import cri_pb2
from tests.e2e.cluster import Cluster
from tests.waiting import eventually


@dataclass(frozen=True, slots=True)
class Running:
    """A container as runc has it; `alive` is what /proc says of its first process."""

    id: str
    pid: int
    alive: bool


def running(cluster: Cluster) -> dict[str, Running]:
    """Every container that runc says is running, by id."""
    listed = eventually(lambda: _listed(cluster.layout.run / "runc"))[0]
    return {
        entry["id"]: Running(entry["id"], entry["pid"], Path(f"/proc/{entry['pid']}/root").exists())
        for entry in listed
        if entry["status"] == "running"
    }


def _listed(root: Path) -> list[list[dict[str, Any]]]:
    """What runc lists, in a list; an empty one where a container went away while runc was listing, which it is told."""
    shown = subprocess.run(["runc", "--root", root, "list", "--format", "json"], capture_output=True, check=False)
    return [json.loads(shown.stdout) or []] if shown.returncode == 0 else []


def disagreements(cluster: Cluster, pod: str) -> list[str]:
    """One line for each thing that two of them say differently of a pod and its containers; empty when they agree."""
    launch = cluster.launch_of(pod)
    return [*_of_processes(cluster, launch), *_of_containerd(cluster, launch)]


def _of_processes(cluster: Cluster, launch: Launch) -> Iterator[str]:
    expected = _expected(launch)
    found = {id_: one for id_, one in running(cluster).items() if id_ in expected or id_.startswith(launch.pod)}
    for id_ in expected.keys() | found.keys():
        told, real = expected.get(id_), found.get(id_)
        if told is None or real is None or told != real.pid or not real.alive:
            yield f"{id_[:12]}: the history says pid {told}, runc {real}"


def _expected(launch: Launch) -> dict[str, int]:
    """What the history says is running: runc's id and pid."""
    if launch.progress.torn_down or not launch.progress.live:
        return {}
    expected = {}
    if launch.sandbox is not None:
        expected[launch.sandbox.runc_id] = launch.sandbox.pid
    if launch.agent is not None and not launch.agent_lost:
        expected[launch.agent.runc_id] = launch.agent.pid
    for container in launch.containers.values():
        if container.progress.live and container.started is not None:
            expected[container.started.runc_id] = container.started.pid
    return expected


def _of_containerd(cluster: Cluster, launch: Launch) -> Iterator[str]:
    pod = _pod_status(cluster, launch.pod)
    if (pod is not None and pod.ready) != launch.progress.live:
        yield f"sandbox: the history says {launch.progress.state}, containerd {pod}"
    for container in launch.containers.values():
        try:
            state = cluster.kubelet.container_status(container.id).state
        except Permanent:
            state = None  # removed
        booted = launch.progress.live and container.progress.state is State.APP_BOOTED
        if (state is ContainerState.RUNNING) != booted:
            yield f"container: the history says {container.progress.state}, containerd {state}"


def _pod_status(cluster: Cluster, pod: str) -> PodStatus | None:
    known = Pod(pod, "", cri_pb2.PodSandboxConfig())
    return cluster.kubelet.pod_status(known) if pod in cluster.kubelet.pods() else None
