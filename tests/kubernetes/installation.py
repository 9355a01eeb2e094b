"""How enclave-cc comes into the cluster under test: the one place that knows.

Today these are the objects that a cluster's administrator applies, with the node's own software brought by the local
stack. Whatever installs the runtime some other way replaces `install` and leaves the tests alone.
"""

from __future__ import annotations

from typing import Any, Final

from tests.kubernetes.kubectl import Kubectl

RUNTIME: Final = "enclave-cc"
LABEL: Final = "enclave-cc.dev/runtime"
OVERHEAD: Final = {"cpu": "50m", "memory": "96Mi"}
"""What a pod takes beside its containers: the agent, and the shim."""


def runtime_class() -> dict[str, Any]:
    """The RuntimeClass: the handler's name in containerd, what a pod of it costs, and which nodes serve it."""
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": RUNTIME},
        "handler": RUNTIME,
        "overhead": {"podFixed": OVERHEAD},
        "scheduling": {"nodeSelector": {LABEL: "true"}},
    }


def install(kubectl: Kubectl, node: str) -> None:
    """Make `node` one that serves pods of the runtime class."""
    kubectl("label", "--overwrite", "node", node, f"{LABEL}=true")
    kubectl.apply(runtime_class())
