"""Names that others see: resources, labels, annotations, service accounts. Public interface; none is ever reused."""

from __future__ import annotations

from typing import Final

GROUP: Final = "enclave-cc.dev"
VERSION: Final = "v1alpha1"
KIND: Final = "EnclaveRuntime"
PLURAL: Final = "enclaveruntimes"
API_VERSION: Final = f"{GROUP}/{VERSION}"
FINALIZER: Final = "enclave-cc.dev/finalizer"

NAMESPACE: Final = "enclave-cc-system"
OPERATOR_ACCOUNT: Final = "enclave-cc-operator"
NODE_ACCOUNT: Final = "enclave-cc-node"
"""The Jobs' service account: bound to nothing, and its token is not mounted."""
LEASE: Final = "enclave-cc-operator"
FIELD_MANAGER: Final = "enclave-cc-operator"

RUNTIME_LABEL: Final = "enclave-cc.dev/runtime"
"""On a node: "false" (claimed; its files may be changing) or "true" (it serves). Absent: not ours."""
PAYLOAD_LABEL: Final = "enclave-cc.dev/payload"
"""On a node: the first 16 hex digits of the digest of the payload that it serves."""
CLAIM_LABEL: Final = "enclave-cc.dev/claimed-by"
"""On nodes and on everything that the operator makes: the EnclaveRuntime's name."""
NODE_LABEL: Final = "enclave-cc.dev/node"
"""On Jobs and their pods: which node, as the digest of its name (a node's name may be longer than a label)."""
SERIAL_LABEL: Final = "enclave-cc.dev/serial"
RECORD_ANNOTATION: Final = "enclave-cc.dev/record"
"""On a node: where it stands (`deploy.operator.record`)."""

RUNTIME_CLASS: Final = "enclave-cc"
HANDLER: Final = "enclave-cc"
"""containerd's runtime handler, as `enclave-cc node install` configures it."""
VERIFICATION_SUFFIX: Final = "-verification"
"""Of the RuntimeClass through which a node is verified before it serves: the same handler, no node selector."""

SGX_LABEL: Final = "intel.feature.node.kubernetes.io/sgx"
EPC_RESOURCE: Final = "sgx.intel.com/epc"


def verification_class(runtime_class: str) -> str:
    """The RuntimeClass of verification pods."""
    return runtime_class + VERIFICATION_SUFFIX


def short_digest(payload: str) -> str:
    """The value of `PAYLOAD_LABEL` for an image reference that ends in `@sha256:` and 64 hex digits."""
    return digest_of(payload).removeprefix("sha256:")[:16]


def digest_of(payload: str) -> str:
    """`sha256:…` of an image reference by digest; empty for an empty one."""
    return payload.rpartition("@")[2]
