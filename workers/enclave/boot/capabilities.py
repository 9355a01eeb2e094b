"""What boot init can give a workload: the capabilities that its own container has.

Zone: enclave. May import: `workers.enclave.launch_policy`, `orchestrator.faults`. Source: capabilities(7), proc(5).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Permanent
from workers.enclave.launch_policy.proposal import Capabilities

_BY_NUMBER: Final = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
"""linux/capability.h, without its prefix."""


def held(status: str) -> frozenset[str]:
    """The bounding set that `/proc/PID/status` tells."""
    mask = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd:"))
    return frozenset(f"CAP_{name}" for number, name in enumerate(_BY_NUMBER) if mask >> number & 1)


def check(wanted: Capabilities, own: frozenset[str]) -> None:
    """Raise Permanent(BOOT_PROCESS) where a workload is to have what its enclave's container has not."""
    missing = sorted(wanted.every() - own)
    if missing:
        raise Permanent(
            Code.BOOT_PROCESS,
            "the enclave's container lacks capabilities that the workload is to have",
            expected="capabilities that act on the pod's own namespaces",
            got=", ".join(missing),
            advice="leave them out of the pod: what acts on the whole machine is not given to an enclave's container",
        )


def own() -> frozenset[str]:
    """Boot init's."""
    return held(Path("/proc/self/status").read_text())
