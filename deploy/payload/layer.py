"""A layer: files as a tar, the same bytes each time.

Zone: owner. May import: `deploy.payload.{oci_layout,tree}`, the standard library.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from deploy.payload.oci_layout import SOURCE_DATE_EPOCH
from deploy.payload.tree import File


def packed(out: Path, files: Mapping[str, File]) -> Path:
    """A tar of the files and the folders that they are in: sorted, root's, of one time. Returns `out`."""
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted({*files, *folders}):
            entry = tarfile.TarInfo(name)
            entry.mtime = SOURCE_DATE_EPOCH
            if name in folders:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            else:
                content = files[name].read()
                entry.size, entry.mode = len(content), 0o755 if files[name].executable else 0o644
                archive.addfile(entry, io.BytesIO(content))
    return out
