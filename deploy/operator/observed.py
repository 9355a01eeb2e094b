"""What is there: one consistent look at the cluster, as values.

A look is taken anew for each decision, by listing; nothing is remembered from a watch, so a lost event costs time and
never truth. Objects that a person or another controller may change are identified by what they say, not by memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from deploy.operator.record import Problem, Record
from deploy.operator.report import Report


class Outcome(StrEnum):
    """How a Job or a verification pod is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Work:
    """A Job for a node, or a verification pod. `report` and `problem` are what its pod said, as far as it did."""

    name: str
    node: str
    serial: int
    outcome: Outcome
    report: Report | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Guest:
    """A pod on a node that runs through the runtime, and has not ended."""

    namespace: str
    name: str
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `version` is its resourceVersion: what is written rests on it.

    `handlers` are the runtime handlers that its kubelet tells; None where it tells none (before Kubernetes 1.30 or
    containerd 2). `guests` is None where nobody looked: only nodes that are about to change are looked at.
    """

    name: str
    uid: str
    version: str
    labels: Mapping[str, str]
    ready: bool = True
    machine_id: str = ""
    handlers: frozenset[str] | None = None
    record: Record | None = None
    unreadable: Problem | None = None
    guests: tuple[Guest, ...] | None = None


@dataclass(frozen=True, slots=True)
class RuntimeClass:
    """A RuntimeClass of one of our names. `owner` is the EnclaveRuntime that made it, "" for a stranger's."""

    name: str
    owner: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that one decision looks at. `now` is in whole seconds of the Unix epoch.

    `resource_version` is the EnclaveRuntime's; `status` is what its status says now.
    """

    now: int
    finalizer: bool
    resource_version: str = ""
    nodes: tuple[Node, ...] = ()
    jobs: tuple[Work, ...] = ()
    pods: tuple[Work, ...] = ()
    runtime_classes: tuple[RuntimeClass, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)

    def job(self, node: str, serial: int) -> Work | None:
        """The Job that was started for a node under a serial number."""
        return next((job for job in self.jobs if (job.node, job.serial) == (node, serial)), None)

    def pod(self, node: str, serial: int) -> Work | None:
        """The verification pod, likewise."""
        return next((pod for pod in self.pods if (pod.node, pod.serial) == (node, serial)), None)
