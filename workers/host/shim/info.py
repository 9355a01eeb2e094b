"""`-info`: what containerd 2 asks of a runtime when it starts, and what a kubelet then knows of the node.

Peer: containerd 2.0 core/runtime/v2, `Info`; plugins/services/tasks reads the answer. The features are those that a pod
can have here, which are fewer than runc's: no mount keeps its own propagation or ID map inside an enclave.
"""

from __future__ import annotations

import json
from typing import Final

from google.protobuf.any_pb2 import Any

from schemas.containerd.introspection_pb2 import RuntimeInfo, RuntimeVersion

NAME: Final = "io.containerd.enclave-cc.v2"
FEATURES_URL: Final = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
_FEATURES: Final = {
    "ociVersionMin": "1.0.0",
    "ociVersionMax": "1.0.2",
    "hooks": [],
    "mountOptions": ["bind", "nodev", "noexec", "nosuid", "rbind", "ro", "rw"],
    "linux": {"mountExtensions": {"idmap": {"enabled": False}}},
}
"""opencontainers/runtime-spec, features.md."""


def info(version: str) -> bytes:
    """The message for standard output."""
    features = Any(type_url=FEATURES_URL, value=json.dumps(_FEATURES).encode())
    return RuntimeInfo(name=NAME, version=RuntimeVersion(version=version), features=features).SerializeToString()
