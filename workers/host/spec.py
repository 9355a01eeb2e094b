"""OCI runtime configurations for the enclaves' containers.

Zone: host. May import: `workers.host.libos.backend`, the standard library. Source: OCI runtime specification 1.0.2.

What is here is the host's part only: a read-only measured root, namespaces, cgroup and devices. What the workload may
do is decided inside the app enclave, where boot init builds its process under the owner's policy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workers.host.libos.backend import ContainerExtras, MountedBundle

BOOT_CAPABILITIES: Final = tuple(
    f"CAP_{name}"
    for name in [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_ADMIN",
        "SYS_CHROOT",
        "SYS_PTRACE",
    ]
)
"""What boot init needs: SYS_ADMIN to mount the sealed root, SYS_PTRACE to start commands beside a workload that is not
root (docs/adr/0017), the rest to be able to give a workload the usual set."""

GRANTABLE: Final = frozenset(
    f"CAP_{name}"
    for name in [
        "IPC_LOCK",
        "IPC_OWNER",
        "LEASE",
        "LINUX_IMMUTABLE",
        "NET_ADMIN",
        "NET_BROADCAST",
        "SYS_NICE",
        "SYS_RESOURCE",
    ]
)
"""What a workload may have beyond that, where its pod asks for it and the owner's policy admits it: each acts on the
pod's own namespaces, files and limits. Those that act on the whole machine are not for an enclave's container."""

FUSE: Final = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0}
_DEVICES_DENIED: Final = {"allow": False, "access": "rwm"}


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount of a host path."""

    source: Path
    destination: str
    writable: bool = False

    def entry(self) -> dict[str, Any]:
        """As the specification wants it."""
        access = "rw" if self.writable else "ro"
        return {
            "destination": self.destination,
            "type": "bind",
            "source": str(self.source),
            "options": ["bind", access, "nosuid", "nodev", "private"],
        }


def agent(
    bundle: MountedBundle, extras: ContainerExtras, mounts: list[Mount], netns: str, cgroup: str
) -> dict[str, Any]:
    """The agent enclave: no capability, its pod's network, everything else its own."""
    spec = _base(bundle, extras, mounts, cgroup)
    spec["linux"]["namespaces"] += [{"type": "network", "path": netns}, {"type": "ipc"}, {"type": "uts"}]
    return spec


def boot(
    bundle: MountedBundle,
    extras: ContainerExtras,
    mounts: list[Mount],
    proposed: dict[str, Any],
    sandbox_pid: int,
) -> dict[str, Any]:
    """The app enclave's container: the pod's network, IPC and UTS namespaces; the CRI's cgroup and limits."""
    linux = proposed.get("linux", {})
    spec = _base(bundle, extras, mounts, str(linux.get("cgroupsPath", "")))
    for kind in ("network", "ipc", "uts"):
        name = {"network": "net"}.get(kind, kind)
        spec["linux"]["namespaces"].append({"type": kind, "path": f"/proc/{sandbox_pid}/ns/{name}"})
    spec["linux"]["devices"].append(FUSE)
    # crun wants to see a cgroup hierarchy even where it is told to leave cgroups alone; an empty one will do.
    spec["mounts"].append(_kernel_mount("/sys/fs/cgroup", "tmpfs", "nosuid", "noexec", "nodev", "ro", "size=4k"))
    resources = {k: v for k, v in linux.get("resources", {}).items() if k != "devices"}
    spec["linux"]["resources"] |= resources
    spec["linux"]["resources"]["devices"].append(
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
    )
    process = proposed.get("process", {})
    asked = [name for names in process.get("capabilities", {}).values() for name in names]
    granted = [*BOOT_CAPABILITIES, *(name for name in sorted(GRANTABLE) if name in asked)]
    spec["process"]["capabilities"] = {
        kind: list(granted) for kind in ("bounding", "effective", "permitted", "inheritable")
    }
    spec["process"]["noNewPrivileges"] = False
    if rlimits := process.get("rlimits"):
        spec["process"]["rlimits"] += [limit for limit in rlimits if limit.get("type") != "RLIMIT_CORE"]
    return spec


def write(spec: dict[str, Any], directory: Path) -> None:
    """Write `config.json`; the directory is made, only root may look into it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(spec, indent=1))


def _base(bundle: MountedBundle, extras: ContainerExtras, mounts: list[Mount], cgroup: str) -> dict[str, Any]:
    binds = [
        {"destination": b.destination, "type": "bind", "source": str(b.source), "options": list(b.options)}
        for b in extras.binds
    ]
    devices = [
        {"path": d.path, "type": "c", "major": d.major, "minor": d.minor, "fileMode": d.mode, "uid": 0, "gid": 0}
        for d in extras.devices
    ]
    allowed = [{"allow": True, "type": "c", "major": d.major, "minor": d.minor, "access": "rw"} for d in extras.devices]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(bundle.path), "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(bundle.entry.argv),
            "env": [f"{name}={value}" for name, value in bundle.entry.env],
            "cwd": bundle.entry.cwd,
            "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
            # No core: 0 would not hold where core_pattern is a pipe, and could not be raised to 1 inside.
            "rlimits": [{"type": "RLIMIT_CORE", "hard": 1, "soft": 1}],
            "noNewPrivileges": True,
        },
        "mounts": [
            _kernel_mount("/proc", "proc", "nosuid", "noexec", "nodev"),
            _kernel_mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _kernel_mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
            _kernel_mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),  # noqa: S108
            _kernel_mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _kernel_mount("/run", "tmpfs", "nosuid", "nodev", "mode=755", "size=65536k"),
            _kernel_mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777", "size=65536k"),  # noqa: S108
            *binds,
            *(mount.entry() for mount in mounts),
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}],
            "rootfsPropagation": "private",
            "devices": devices,
            "resources": {"devices": [_DEVICES_DENIED, *allowed]},
            **({"cgroupsPath": cgroup} if cgroup else {}),
        },
    }


def _kernel_mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}
