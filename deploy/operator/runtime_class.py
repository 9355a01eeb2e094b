"""The RuntimeClasses: the one that users name, and the one through which a node is verified. Pure.

Scheduling: pods go only to nodes that serve (the label `enclave-cc.dev/runtime` is "true") for this EnclaveRuntime, and
on hardware only to nodes with SGX. The kubelet checks the same selector when a pod arrives, so a pod that was bound a
moment before its node was demoted does not run there. The verification class has no selector: its pods name their node.

Overhead (KEP-688): what agent and boot init need besides the workload. On hardware `sgx.intel.com/epc` is part of it,
so that the scheduler counts the agent enclave's protected memory; nothing asks for it in simulation.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from deploy.operator import names
from deploy.operator.desired import Desired, Mode

FINGERPRINT_ANNOTATION: Final = "enclave-cc.dev/fingerprint"
_OVERHEAD: Final = {"cpu": "50m", "memory": "128Mi"}
_EPC: Final = "64Mi"


def runtime_class(name: str, desired: Desired) -> dict[str, Any]:
    """The document (node.k8s.io/v1) of one of the two; `name` says which."""
    verifying = name == names.verification_class(desired.runtime_class)
    epc = {names.EPC_RESOURCE: _EPC} if desired.mode is Mode.SGX else {}
    document: dict[str, Any] = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": name, "labels": {names.CLAIM_LABEL: desired.name}},
        "handler": names.HANDLER,
        "overhead": {"podFixed": _OVERHEAD | epc | dict(desired.overhead)},
    }
    if not verifying:
        selector = {names.RUNTIME_LABEL: "true", names.CLAIM_LABEL: desired.name}
        if desired.mode is Mode.SGX:
            selector[names.SGX_LABEL] = "true"
        document["scheduling"] = {"nodeSelector": selector, "tolerations": [dict(t) for t in desired.tolerations]}
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    document["metadata"]["annotations"] = {FINGERPRINT_ANNOTATION: digest}
    return document


def fingerprint(name: str, desired: Desired) -> str:
    """What the annotation of that document says: differs when anything in it does."""
    said: str = runtime_class(name, desired)["metadata"]["annotations"][FINGERPRINT_ANNOTATION]
    return said
