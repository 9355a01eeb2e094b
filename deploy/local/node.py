"""`node.toml` for a stack's one node; workers/host/node.py defines its form.

Zone: host. May import: `deploy.local.layout`, `orchestrator.bus`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.local.layout import Layout
from orchestrator.bus.operator_key import OperatorKey

NODE: Final = "local"


def agent_bundle(layout: Layout) -> Path:
    """The image that this node's agents are made from."""
    return layout.root / "payload/agent.erofs"


def boot_bundle(layout: Layout) -> Path:
    """The image that this node's app enclaves are made from."""
    return layout.root / "payload/boot.erofs"


def configuration(layout: Layout) -> str:
    """The text of `node.toml`. JSON strings are TOML strings."""
    values: dict[str, object] = {
        "node": NODE,
        "run_dir": layout.run,
        "state_dir": layout.root / "state",
        "runc": shutil.which("runc") or "/usr/sbin/runc",
    }
    bus = {"url": layout.bus_url, "ca": layout.ca}
    credentials = {
        "worker": layout.credentials("worker"),
        "shim": layout.credentials("shim"),
        "agent_signer": layout.root / "bus/agents.json",
    }
    orders = f'operators = ["{OperatorKey.load(layout.credentials("operator")).public.hex()}"]\n'
    enclave = {
        "agent_bundle": agent_bundle(layout),
        "boot_bundle": boot_bundle(layout),
        "libos": "sim",
        "socket": layout.cpu,
        "control": layout.cpu_control,
        "init_data": layout.root / "init-data.toml",
    }
    reachable = [layout.registry_host, f"127.0.0.1:{layout.ports.kbs}"]
    sections = [_table("", values), _table("bus", bus), _table("credentials", credentials), f"[orders]\n{orders}"]
    return "\n".join([*sections, _table("enclave", enclave)]) + f"reachable = {json.dumps(reachable)}\n"


def _table(name: str, values: Mapping[str, object]) -> str:
    head = [f"[{name}]"] if name else []
    return "\n".join([*head, *(f"{key} = {json.dumps(str(value))}" for key, value in values.items())]) + "\n"
