"""What boot init can give a workload: read from the kernel, told by name where it is not enough."""

from __future__ import annotations

import pytest

from orchestrator.faults import Code, Permanent
from workers.enclave.boot import capabilities
from workers.enclave.launch_policy.proposal import Capabilities


def asks(*names: str) -> Capabilities:
    return Capabilities(bounding=names, effective=names, permitted=names, inheritable=(), ambient=())


def test_the_kernels_mask_is_read_by_numbers() -> None:
    mask = 1 << 0 | 1 << 12 | 1 << 21 | 1 << 40
    assert capabilities.held(f"Name:\tx\nCapBnd:\t{mask:016x}\n") == {
        "CAP_CHOWN",
        "CAP_NET_ADMIN",
        "CAP_SYS_ADMIN",
        "CAP_CHECKPOINT_RESTORE",
    }


def test_a_workload_may_have_what_its_enclaves_container_has_and_no_more() -> None:
    own = frozenset({"CAP_CHOWN", "CAP_KILL"})
    capabilities.check(asks("CAP_KILL"), own)
    with pytest.raises(Permanent) as refused:
        capabilities.check(asks("CAP_KILL", "CAP_SYS_TIME", "CAP_BPF"), own)
    assert refused.value.code is Code.BOOT_PROCESS
    assert refused.value.diagnosis.got == "CAP_BPF, CAP_SYS_TIME"
