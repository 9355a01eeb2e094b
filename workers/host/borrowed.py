"""What a fork borrows from the launch that it was forked from: containerd made directories for that one only.

Zone: host. May import: the standard library, `orchestrator.faults`, `workers.host`.

A fork runs beside the other launch and must not reach into it. So of the bundles that it borrows it changes this:

- the sandbox has a network of its own with nothing in it but loopback: the agent's doors need no more;
- cgroups are its own, beside the other's, within the same limits of the pod;
- what is mounted from the node is read-only, since the other launch writes there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.faults import Code, Permanent


def sandbox_bundle(lender: Path, directory: Path, pod: str) -> Path:
    """A bundle for the fork's pause container in `directory`, from the other sandbox's. Raises Permanent."""
    document = _read(lender)
    namespaces = document["linux"]["namespaces"]
    document["linux"]["namespaces"] = [{"type": n["type"]} if n.get("type") == "network" else n for n in namespaces]
    document["root"]["path"] = str(lender / document["root"]["path"])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(_with_own_cgroup(document, pod)))
    return directory


def proposal(document: dict[str, Any], container: str) -> dict[str, Any]:
    """What the CRI proposed for the other container, as it is proposed for the fork's."""
    mounts = [
        {**mount, "options": [*(o for o in mount.get("options", ()) if o != "rw"), "ro"]} if _binds(mount) else mount
        for mount in document.get("mounts", ())
    ]
    return _with_own_cgroup({**document, "mounts": mounts}, container)


def _binds(mount: dict[str, Any]) -> bool:
    return mount.get("type") == "bind" or bool({"bind", "rbind"} & set(mount.get("options", ())))


def _with_own_cgroup(document: dict[str, Any], name: str) -> dict[str, Any]:
    linux = dict(document.get("linux", {}))
    if path := str(linux.get("cgroupsPath", "")):
        linux["cgroupsPath"] = str(Path(path).parent / name)
    return {**document, "linux": linux}


def _read(lender: Path) -> dict[str, Any]:
    try:
        document = json.loads((lender / "config.json").read_text())
        _ = document["linux"]["namespaces"], document["root"]["path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Permanent(
            Code.SANDBOX_NOT_CREATED,
            "the bundle that this fork borrows cannot be read",
            expected=f"config.json with linux.namespaces and root.path in {lender}",
            got=type(error).__name__,
            advice="the launch that it was forked from is gone from this node: fork one that is still there",
        ) from error
    if not isinstance(document, dict):
        raise TypeError("checked above")
    return document
