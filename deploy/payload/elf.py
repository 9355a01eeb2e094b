"""What ELF files need and what they do not: libraries, as this machine's loader finds them; symbols for debuggers.

Zone: owner. May import: `orchestrator.faults`, the standard library; runs ldd and strip.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Permanent

_MAGIC: Final = b"\x7fELF"
_LINE: Final = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)

_UNREAD: Final = ("--strip-unneeded", "--remove-section=.note.gnu.build-id")
"""The build id is a digest of the debugging symbols too, and these name the folder that a wheel was compiled in."""


def is_elf(path: Path) -> bool:
    """Whether the file is an ELF object."""
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


def stripped(path: Path) -> bytes:
    """The file without what a debugger alone reads, which may be most of it.

    The same bytes wherever it was compiled from the same source by the same compiler.
    """
    with tempfile.NamedTemporaryFile() as target:
        subprocess.run(["strip", *_UNREAD, "-o", target.name, path], check=True, timeout=60)
        return Path(target.name).read_bytes()


def libraries(objects: Iterable[Path]) -> set[Path]:
    """The paths of all libraries that `objects` load, the loader among them. Raises Permanent(NOT_FOUND)."""
    needed: set[Path] = set()
    for path in sorted(set(objects)):
        listed = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False, timeout=60)
        if "not found" in listed.stdout:
            raise Permanent(
                Code.NOT_FOUND,
                f"{path} needs a library that this machine lacks",
                expected="every library of a bundle's programs",
                got=listed.stdout.strip()[-500:],
                advice="sh deploy/setup.sh installs them",
            )
        needed |= {Path(found) for found in _LINE.findall(listed.stdout)}
    return needed
