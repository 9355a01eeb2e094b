"""The bundle of a pod's pause container, for a sandbox that containerd leaves to the shim.

With `sandboxer = "shim"` the CRI brings neither an image nor a specification for a pause container, only the pod's
configuration and the path of its network namespace. So both are made here, as containerd's own controller would: the
pause program is the node's, in a root file system with nothing else. No part of the pod's security depends on it: it
holds namespaces for processes whose memory is theirs alone.

Peer: containerd 2.1 internal/cri/server/podsandbox/sandbox_run_linux.go, sandboxContainerSpec. Source: OCI runtime
specification 1.0.2.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from orchestrator.faults import Code, Permanent
from schemas.containerd import cri_pb2, types_pb2
from workers.host.shim.bundle import CRI, OWN

PAUSE: Final = Path("/usr/bin/catatonit")
"""A static program that sleeps and reaps: Debian's package `catatonit`, which the node has for this."""
ROOTFS: Final = types_pb2.Mount(type="tmpfs", source="tmpfs", options=["nosuid", "nodev", "mode=0711", "size=64k"])
"""What the mounts of the pause container need to be made in; containerd removes the bundle only when it is empty."""
_NAMESPACE: Final = "k8s.io"
"""containerd's, of all that the CRI makes."""


def write(path: Path, sandbox: str, netns: str, config: cri_pb2.PodSandboxConfig, pause: Path = PAUSE) -> None:
    """Write `path`/config.json.

    Raises Permanent(SANDBOX_NOT_CREATED) where the node has no program `pause`, Permanent(INPUT) for a pod that asks
    for a user namespace.
    """
    options = config.linux.security_context.namespace_options
    if options.HasField("userns_options") and options.userns_options.mode != cri_pb2.NODE:
        raise Permanent(
            Code.INPUT,
            "the pod asks for a user namespace of its own",
            expected="hostUsers: true, or no word of it",
            got="hostUsers: false",
            advice="remove hostUsers from the pod: an enclave's processes have no use for the node's users",
        )
    if not pause.exists():
        raise Permanent(
            Code.SANDBOX_NOT_CREATED,
            "this node has no program to hold a pod's namespaces",
            expected=str(pause),
            got="no such file",
            advice='install the package catatonit, or let the runtime\'s sandboxer be "podsandbox"',
        )
    document = _specification(sandbox, netns, config, pause)
    (path / "config.json").write_text(json.dumps(document, separators=(",", ":")))  # as socket_address reads it fast


def _specification(sandbox: str, netns: str, config: cri_pb2.PodSandboxConfig, pause: Path) -> dict[str, Any]:
    flags = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "hostname": config.hostname,
        "root": {"path": "rootfs", "readonly": True},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/pause", "-P"],
            "env": ["PATH=/"],
            "cwd": "/",
            "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": flags},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {
                "destination": "/pause",
                "type": "bind",
                "source": str(pause),
                "options": ["bind", "ro", "nosuid", "nodev", "private"],
            },
        ],
        "annotations": _annotations(sandbox, config),
        "linux": {
            "namespaces": _namespaces(netns, config.linux.security_context.namespace_options),
            "rootfsPropagation": "private",
            "sysctl": dict(config.linux.sysctls),
            "cgroupsPath": _cgroup(config.linux.cgroup_parent, sandbox),
            "resources": {"cpu": {"shares": 2}, "devices": [{"allow": False, "access": "rwm"}]},
        },
    }


def _annotations(sandbox: str, config: cri_pb2.PodSandboxConfig) -> dict[str, str]:
    """What `bundle` reads of a sandbox, and what the pod's author says to us."""
    told = {
        f"{CRI}container-type": "sandbox",
        f"{CRI}sandbox-id": sandbox,
        f"{CRI}sandbox-name": config.metadata.name,
        f"{CRI}sandbox-namespace": config.metadata.namespace,
        f"{CRI}sandbox-uid": config.metadata.uid,
    }
    return {name: text for name, text in config.annotations.items() if name.startswith(OWN)} | told


def _namespaces(netns: str, wanted: cri_pb2.NamespaceOption) -> list[dict[str, str]]:
    """The node's own where the pod asks for them; the host worker refuses a pod that shares the node's network."""
    namespaces = [{"type": "mount"}]
    if wanted.network != cri_pb2.NODE:
        namespaces += [{"type": "network", "path": netns}, {"type": "uts"}]
    if wanted.pid != cri_pb2.NODE:
        namespaces.append({"type": "pid"})
    if wanted.ipc != cri_pb2.NODE:
        namespaces.append({"type": "ipc"})
    return namespaces


def _cgroup(parent: str, sandbox: str) -> str:
    """Beside the pod's containers: a path, or `slice:prefix:name` where systemd keeps the cgroups."""
    if parent.endswith(".slice"):
        return f"{Path(parent).name}:cri-containerd:{sandbox}"
    return str(Path(parent or f"/{_NAMESPACE}") / sandbox)
