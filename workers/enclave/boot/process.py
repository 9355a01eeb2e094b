"""The workload's OCI configuration: what the agent approved, in the sealed root.

Zone: enclave. May import: `workers.enclave.launch_policy`, the standard library. Source: OCI runtime specification
1.0.2, executed by crun.

Everything that shapes the process comes from the approval or from here; nothing of the host's configuration does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.enclave.boot.seccomp import profile
from workers.enclave.launch_policy.accounts import Accounts, Identity
from workers.enclave.launch_policy.approved import ApprovedMount, ApprovedProcess

_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def oci(
    approved: ApprovedProcess,
    identity: Identity,
    root: Path,
    secrets: Path,
    values: dict[str, bytes],
    binds: Mapping[str, Path],
) -> dict[str, Any]:
    """`config.json` for crun. `secrets` is a directory in memory with one file a secret that has a path.

    `binds` says where the content of each approved bind mount is, by its destination: never the host's own files.
    """
    environment = list(approved.env)
    environment += [f"{s.env}={values[s.uri].decode()}" for s in approved.secrets if s.env]
    if identity.home and not any(entry.startswith("HOME=") for entry in environment):
        environment.append(f"HOME={identity.home}")
    if approved.terminal:
        environment = with_terminal(environment)
    capabilities = approved.capabilities
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(root), "readonly": approved.read_only_root},
        "process": {
            "terminal": approved.terminal,
            "user": {
                "uid": identity.uid,
                "gid": identity.gid,
                "additionalGids": list(identity.additional_gids),
            },
            "args": list(approved.argv),
            "env": environment,
            "cwd": approved.cwd,
            "capabilities": {
                "bounding": list(capabilities.bounding),
                "effective": list(capabilities.effective),
                "permitted": list(capabilities.permitted),
                "inheritable": list(capabilities.inheritable),
                "ambient": list(capabilities.ambient),
            },
            "rlimits": [{"type": r.kind, "soft": r.soft, "hard": r.hard} for r in approved.rlimits],
            "noNewPrivileges": approved.no_new_privileges,
        },
        "mounts": [
            *_kernel_mounts(),
            *(_admitted(mount, binds) for mount in approved.mounts),
            *(_secret(secrets / str(n), s.path) for n, s in enumerate(approved.secrets) if s.path),
        ],
        "linux": {
            # A PID namespace of its own: the workload neither sees boot init nor the server of its root.
            "namespaces": [{"type": "pid"}, {"type": "mount"}],
            "rootfsPropagation": "private",
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
            "seccomp": profile(),
        },
    }


def with_terminal(environment: Sequence[str]) -> list[str]:
    """The variables of a process that has a terminal: it learns which kind, as container engines tell."""
    return [*environment, *([] if any(entry.startswith("TERM=") for entry in environment) else ["TERM=xterm"])]


def identity_of(approved: ApprovedProcess, root: Path) -> Identity:
    """The user in numbers, by the sealed root's own files. Raises Permanent as `Accounts.resolve` does."""
    accounts = Accounts.parse(_bounded(root, "etc/passwd"), _bounded(root, "etc/group"))
    return accounts.resolve(approved.user, approved.additional_gids)


def _bounded(root: Path, name: str) -> bytes:
    path = root / name
    # A link, of the file or of the directory above it, could lead out of the root.
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(1024 * 1024)


def _kernel_mounts() -> list[dict[str, Any]]:
    quiet = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        {
            "destination": "/dev/shm",  # noqa: S108 - a mount point
            "type": "tmpfs",
            "source": "shm",
            "options": [*quiet, "mode=1777", "size=65536k"],
        },
        {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro", *quiet]},
    ]


def _admitted(mount: ApprovedMount, binds: Mapping[str, Path]) -> dict[str, Any]:
    access = "ro" if mount.read_only else "rw"
    if mount.kind == "tmpfs":
        return {
            "destination": mount.destination,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "nodev", access],
        }
    return {
        "destination": mount.destination,
        "type": "bind",
        "source": str(binds[mount.destination]),
        "options": ["bind", "nosuid", "nodev", access],
    }


def _secret(source: Path, destination: str) -> dict[str, Any]:
    options = ["bind", "ro", "nosuid", "nodev", "noexec"]
    return {"destination": destination, "type": "bind", "source": str(source), "options": options}
