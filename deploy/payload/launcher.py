"""The program that every name below host/bin is a copy of: `launcher.c`, compiled.

Zone: owner. May import: `orchestrator.faults`, the standard library; runs gcc.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Permanent

SOURCE: Final = Path(__file__).with_name("launcher.c")
COMPILER: Final = "gcc"
_OPTIONS: Final = (
    *("-std=c11", "-Os", "-Wall", "-Wextra", "-Werror"),
    # Nothing that needs a C library, and nothing that names this machine.
    *("-ffreestanding", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fno-ident"),
    *("-nostdlib", "-static", "-s", "-Wl,--build-id=none", "-Wl,-z,noexecstack"),
)


def compiled() -> bytes:
    """The executable: the same bytes from the same compiler. Raises Permanent(RUNTIME)."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "launcher"
        command = [COMPILER, *_OPTIONS, "-o", str(out), str(SOURCE)]
        made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if made.returncode:
            raise Permanent(
                Code.RUNTIME,
                "the launcher of the node's programs could not be compiled",
                expected="gcc for x86_64",
                got=made.stderr.strip()[-500:],
                advice="sh deploy/setup.sh installs it",
            )
        return out.read_bytes()
