"""Where the owner's secrets rest: one file each, mode 0600, below `resources/` in the state directory.

Names begin with a letter, digit, `_` or `-` (schemas.kbs.is_segment), so none can climb out or meet an unfinished file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.kbs import durable

if TYPE_CHECKING:
    from pathlib import Path

    from workers.enclave.kbs import ResourceUri


class Resources:
    """The resources of one owner. Every call touches the disk: nothing secret is kept in memory for later."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, uri: ResourceUri) -> bytes:
        """The resource; FileNotFoundError when there is none."""
        return self._path(uri).read_bytes()

    def write(self, uri: ResourceUri, content: bytes) -> None:
        """Make or replace the resource; it is on the disk when this returns."""
        path = self._path(uri)
        durable.make_directory(path.parent)
        durable.write(path, content)

    def delete(self, uri: ResourceUri) -> None:
        """Remove the resource; FileNotFoundError when there is none. The medium may still hold its bytes."""
        durable.remove(self._path(uri))

    def _path(self, uri: ResourceUri) -> Path:
        return self._directory / uri.repository / uri.type / uri.tag
