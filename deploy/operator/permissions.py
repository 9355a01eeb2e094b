"""What the operator's service account may do, and no more: what the chart's roles must come to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deploy.operator import names


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of RBAC. `named` limits it to objects of these names; creating cannot be limited so."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    named: tuple[str, ...] = ()


_READ: Final = ("get", "list", "watch")
_CLASSES: Final = (names.RUNTIME_CLASS, names.verification_class(names.RUNTIME_CLASS))

CLUSTER_RULES: Final = (
    Rule(names.GROUP, (names.PLURAL,), (*_READ, "patch")),
    Rule(names.GROUP, (f"{names.PLURAL}/status",), ("patch",)),
    Rule("", ("nodes",), (*_READ, "patch")),
    Rule("", ("pods",), _READ),
    Rule("", ("pods/eviction",), ("create",)),
    Rule("node.k8s.io", ("runtimeclasses",), ("create",)),
    Rule("node.k8s.io", ("runtimeclasses",), ("get", "patch", "delete"), _CLASSES),
)
NAMESPACE_RULES: Final = (
    Rule("batch", ("jobs",), (*_READ, "create", "delete")),
    Rule("", ("pods",), ("create", "delete")),
    Rule("coordination.k8s.io", ("leases",), ("get", "create", "patch")),
)
