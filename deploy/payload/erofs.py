"""A tree as one EROFS image: the same tree gives the same bytes.

Zone: owner. May import: `deploy.payload.tree`, the standard library; runs mkfs.erofs.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Final

from deploy.payload.tree import Tree
from orchestrator.faults import Code, Permanent

UUID: Final = "00000000-0000-4000-8000-000000000000"
"""Of every bundle: an image is named by its measurement."""


def write(tree: Tree, image: Path) -> None:
    """Write the image file; it appears whole or not at all. Uncompressed: pages are shared among all its enclaves."""
    with tempfile.TemporaryDirectory(dir=image.parent, prefix=".bundle-") as scratch:
        root, partial = Path(scratch) / "root", Path(scratch) / "image"
        root.mkdir()
        tree.write(root)
        options = ["--quiet", "-T0", "-x-1", f"-U{UUID}", "--all-root"]
        made = subprocess.run(
            ["mkfs.erofs", *options, str(partial), str(root)], capture_output=True, text=True, check=False, timeout=120
        )
        if made.returncode:
            raise Permanent(
                Code.RUNTIME,
                "the bundle's image could not be made",
                expected="mkfs.erofs of Debian's erofs-utils",
                got=made.stderr.strip()[-500:],
                advice="sh deploy/setup.sh installs it; is there room on the disk?",
            )
        partial.chmod(0o644)
        partial.rename(image)
