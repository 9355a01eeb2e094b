"""A file tree as a value: what a bundle will hold, before anything is written.

Zone: owner. May import: `deploy.payload.elf`, the standard library.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from deploy.payload import elf


@dataclass(frozen=True, slots=True)
class File:
    """A regular file: a copy of `source`, or `content`. Owner root, mode 0755 if `executable`, else 0644.

    `stripped`: of the source, an ELF file, what a debugger alone reads is left out.
    """

    source: Path | None = None
    content: bytes = b""
    executable: bool = False
    stripped: bool = False

    def digest(self) -> str:
        """SHA-256 of what it holds, hex."""
        return hashlib.sha256(self.read()).hexdigest()

    def read(self) -> bytes:
        """What it holds."""
        if self.source is None:
            return self.content
        return elf.stripped(self.source) if self.stripped else self.source.read_bytes()


@dataclass(frozen=True, slots=True)
class Tree:
    """Paths without a leading slash. `links` are symbolic. Parents of files need not be named in `folders`."""

    files: dict[str, File]
    links: dict[str, str]
    folders: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256 over every path with what stands there: equal trees make equal images."""
        lines = [f"f {file.executable:d} {file.digest()} {path}" for path, file in self.files.items()]
        lines += [f"l {target} {path}" for path, target in self.links.items()]
        lines += [f"d {path}" for path in self.folders]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def write(self, root: Path) -> None:
        """Make it below `root`, an empty folder."""
        for name in self.folders:
            (root / name).mkdir(parents=True, exist_ok=True)
        for name, file in self.files.items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read())
            target.chmod(0o755 if file.executable else 0o644)
        for name, to in self.links.items():
            link = root / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(to)
        for folder in (root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())):
            folder.chmod(0o755)
