"""What this machine holds at a moment: descriptors, processes, control groups. For tests that nothing is left."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def descriptors() -> list[str]:
    """What this process has open."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the directory's own
            found.append(f"{path.name} {path.readlink()}")
    return found


def processes_naming(word: str) -> list[str]:
    """Command lines on this machine with `word` in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found.append(line)
    return found


def cgroups_naming(word: str) -> list[Path]:
    """Control groups with `word` in their name, of every hierarchy."""
    # Not by glob, which stumbles over what another test's containers take away meanwhile.
    found = (Path(top, name) for top, names, _ in os.walk("/sys/fs/cgroup") for name in names)
    return [path for path in found if word in path.name]
