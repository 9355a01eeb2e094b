"""The system calls that no workload makes: they reach the kernel, its namespaces or its memory from outside a process.

Zone: enclave. May import: the standard library. Source: seccomp(2); the list is the part of moby's default profile that
needs CAP_SYS_ADMIN, CAP_SYS_MODULE, CAP_SYS_BOOT, CAP_SYS_PTRACE, CAP_BPF or CAP_SYS_TIME there, and what has no use in
a container. A list of refusals rather than permissions: unmodified images are run, and new harmless calls keep coming.
"""

from __future__ import annotations

from typing import Any, Final

REFUSED: Final = [
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "init_module",
    "ioperm",
    "iopl",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "umount",
    "umount2",
    "userfaultfd",
    "uselib",
    "ustat",
    "vhangup",
    "vm86",
    "vm86old",
]

NEW_NAMESPACES: Final = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (linux/sched.h)."""


def profile() -> dict[str, Any]:
    """`linux.seccomp` of the OCI runtime specification 1.0.2."""
    refused = {"names": [*REFUSED, "unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    # Its flags are in memory, out of a filter's sight; libraries fall back to clone.
    hidden = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    namespaces = [
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 1,
            "args": [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}],
        }
        for flag in NEW_NAMESPACES
    ]
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [refused, hidden, *namespaces],
    }
