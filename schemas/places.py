"""Places that the untrusted host and the enclaves agree on: paths in enclaves' containers, ports on a pod's loopback.

Zone: any. May import: the standard library. Nothing found at such a place is trusted for being there.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

BUS_DOOR: Final = 61440
"""127.0.0.1 in the pod: a plain forward to nats-server, opened by the host worker."""

HTTP_DOOR: Final = 61441
"""127.0.0.1 in the pod: CONNECT, /enroll and /containers/<id>/process, answered by the host worker."""

AGENT_PORT: Final = 61442
"""127.0.0.1 in the pod: the agent, for boot inits."""

POD_FILE: Final = "/run/enclave-cc/pod.json"
INIT_DATA: Final = "/run/enclave-cc/init-data.toml"
STORES: Final = "/run/enclave-cc/stores"
"""In the agent's container: who the pod is, the owner's word, where sealed stores are written."""

CONTAINER_FILE: Final = "/run/enclave-cc/container.json"
STORE: Final = "/run/enclave-cc/store"
"""In an app enclave's container: which container it is, and its sealed store."""

EXEC_DOOR: Final = "/run/enclave-cc/exec.sock"
"""In an app enclave's container: boot init, for commands beside the workload; see `schemas.execs`."""

AGENT_MEASUREMENT: Final = "/etc/enclave-cc/agent.mrenclave"
"""In the boot bundle, measured with it: the MRENCLAVE of the one agent that boot init talks to, in hex."""


def offered_at(destination: str) -> str:
    """Where the host puts the bind mount that it offers for `destination` in the workload's root."""
    return f"/run/enclave-cc/host/{hashlib.sha256(destination.encode()).hexdigest()[:16]}"


def store_name(container: str, attempt: int) -> str:
    """What the agent calls the sealed store of a container's attempt, below `STORES`."""
    return f"{container}.{attempt}"


def image_store_name(number: int) -> str:
    """What the agent calls the sealed store of the pod's n-th image; the containers' stores are other names of it."""
    return f"image.{number}"


def is_store_of(name: str, container: str) -> bool:
    """Whether `name` is of a store of that container: of any attempt, finished or not."""
    return re.fullmatch(rf"{re.escape(container)}\.[0-9]+(\.partial)?", name, re.ASCII) is not None
