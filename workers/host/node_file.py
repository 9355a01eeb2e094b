"""Where a node's configuration lies, and its bare document: for who needs one member of it and little memory.

Zone: host. May import: `orchestrator.faults`, the standard library. What the members mean: `workers.host.node`.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Final

from orchestrator.faults import Code, Permanent

ENVIRONMENT: Final = "ENCLAVE_CC_NODE_CONFIG"
DEFAULT_PATH: Final = Path("/etc/enclave-cc/node.toml")
SHIMS: Final = "shims.sock"
"""In the node's `run_dir`: where the worker answers pods' shims."""
PODS: Final = "pods"
"""In the node's `run_dir`: a folder for each pod."""
BOOT_BUNDLE: Final = "boot-bundle"
"""In a pod's folder: a link to the bundle that its app enclaves are made from."""


def read(path: Path | None = None) -> dict[str, Any]:
    """Read `path`, or what the environment names, or the default. Raises Permanent(INPUT)."""
    path = path or Path(os.environ.get(ENVIRONMENT, DEFAULT_PATH))
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise Permanent(
            Code.INPUT,
            f"the node's configuration {path} cannot be read",
            expected="a TOML file",
            got=str(error)[:500],
            advice=f"set {ENVIRONMENT}, or run `enclave-cc up`, which writes one",
        ) from error
