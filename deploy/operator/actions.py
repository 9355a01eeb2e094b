"""What a decision comes to: one value for each thing that the operator ever does to a cluster.

Each may be repeated: an action that was carried out and is ordered again, by another operator or after a crash, finds
its object, or is refused by the version that it rests on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from deploy.operator.record import Record


class Operation(StrEnum):
    """The subcommand of `enclave-cc node` that a Job runs."""

    INSTALL = "install"
    UPGRADE = "upgrade"
    UNINSTALL = "uninstall"


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Before anything else is done for a resource."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """After everything else is gone."""


@dataclass(frozen=True, slots=True)
class PatchNode:
    """Write a node's record and labels in one request, which fails if the node has changed since `version`.

    `record` None lets the node go: annotation and labels are removed. `serves` is the label `enclave-cc.dev/runtime`.
    """

    node: str
    version: str
    record: Record | None
    serves: bool


@dataclass(frozen=True, slots=True)
class StartJob:
    """One Job for one node."""

    node: str
    node_uid: str
    machine_id: str
    serial: int
    operation: Operation
    payload: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """A running Job that no node's record knows: its node has gone."""

    name: str


@dataclass(frozen=True, slots=True)
class StartVerification:
    """A pod through the runtime on one node."""

    node: str
    node_uid: str
    serial: int


@dataclass(frozen=True, slots=True)
class DeletePod:
    """A verification pod that has served its purpose."""

    name: str


@dataclass(frozen=True, slots=True)
class Evict:
    """Ask a pod to leave, within its disruption budget."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class PutRuntimeClass:
    """Make a RuntimeClass, or make it again what it should be."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteRuntimeClass:
    """Remove one of ours."""

    name: str


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Write the resource's whole status."""

    status: Mapping[str, Any]


Action = (
    AddFinalizer
    | RemoveFinalizer
    | PatchNode
    | StartJob
    | DeleteJob
    | StartVerification
    | DeletePod
    | Evict
    | PutRuntimeClass
    | DeleteRuntimeClass
    | SetStatus
)
