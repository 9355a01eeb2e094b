"""The node's own software: what of the project runs on a node, beside the measured bundles.

Zone: owner. May import: `deploy.payload`, the standard library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from deploy.payload import software
from deploy.payload.roles import ABSENT
from deploy.payload.software import Host, Program, Software

PROGRAMS: Final = (
    Program("enclave-cc", "deploy.cli", serves=False),
    Program("containerd-shim-enclave-cc-v2", "workers.host.shim.main", serves=False),
    Program("enclave-cc-worker", "workers.host.__main__"),
    Program("enclave-cc-snapshotter", "workers.host.snapshotter.__main__"),
    Program("enclave-cc-zygote", "workers.host.shim.zygote"),
    Program("enclave-cc-cpu", "workers.host.libos.sim.__main__"),
)
_NODE: Final = Software(
    PROGRAMS,
    # What installs, and needs neither a stack nor an owner's keys.
    subcommands=frozenset({"node"}),
    # A shim whose worker is away runs it, by name.
    modules=("workers.host.shim.alone",),
    absent=ABSENT,
    # The worker starts it by name.
    companions={"conmon": Path("/usr/bin/conmon")},
)


def build_host() -> Host:
    """The tree below `host/` of a payload. Raises Permanent(INPUT, NOT_FOUND, RUNTIME)."""
    return software.build(_NODE)
