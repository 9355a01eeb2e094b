"""One thing a layer says: a path, what stands there, and its attributes.

Zone: enclave. May import: `orchestrator.faults`.

The values here are what `tar` yields, what `deploy` may build by hand for a bundle, and what `tree` merges. Names
are bytes: Linux asks nothing of a name but that it holds neither NUL nor slash, and nor do we.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from orchestrator.faults import Code, Permanent

MAX_NAME = 255
"""Bytes in one component: NAME_MAX of Linux, and of EROFS."""

MAX_PATH = 4096
"""Bytes in a whole path or a symbolic link's text: PATH_MAX of Linux."""

Piece = bytes | bytearray | memoryview
"""A run of bytes."""

Path = tuple[bytes, ...]
"""A path below the root, one component each, never `.`, `..` or empty. The empty tuple is the root itself."""


class Kind(Enum):
    """What stands at a path."""

    REGULAR = "regular file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    CHARACTER = "character device"
    BLOCK = "block device"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True)
class Attributes:
    """Who owns an inode and how it may be used.

    `permissions` are the low 12 bits of the mode (set-id and sticky bits included); `mtime_ns` is nanoseconds since
    the epoch, negative before it; `xattrs` are pairs of full name (`security.capability`) and value.
    """

    permissions: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer.

    `size` counts the bytes of a regular file and is 0 for everything else; `target` is a symbolic link's text, taken
    as it is; `link` is the path a hard link points to; `device` is (major, minor).
    """

    path: Path
    kind: Kind
    attributes: Attributes
    size: int = 0
    target: bytes = b""
    link: Path = ()
    device: tuple[int, int] = (0, 0)


def malformed(message: str, *, expected: str = "", got: str = "") -> Permanent:
    """The fault for a layer that says something no layer may say."""
    return Permanent(
        Code.IMAGE_MALFORMED,
        message,
        expected=expected,
        got=got,
        advice="rebuild the image with a current builder; if it is signed as it stands, tell its owner",
    )


def shown(name: bytes) -> str:
    """A name from a layer, fit for a message: escaped, and cut at 200 characters."""
    text = repr(name)[2:-1]
    return text if len(text) <= 200 else text[:200] + "..."


def parse_path(name: bytes) -> Path:
    """The components of a name in a layer.

    Absolute names are taken from the root, as every runtime does. Raises `Permanent` (IMAGE_MALFORMED) for a `..`
    component, even one that would stay below the root: no builder writes one, and every one of them is an attempt to
    mean something else to another reader.
    """
    if b"\0" in name:
        raise malformed("a name in a layer holds a NUL byte", got=shown(name))
    if len(name) > MAX_PATH:
        raise malformed("a name in a layer is too long", expected=f"at most {MAX_PATH} bytes", got=f"{len(name)} bytes")
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise malformed("a name in a layer climbs out of its directory", expected="no '..'", got=shown(name))
    if any(len(part) > MAX_NAME for part in parts):
        raise malformed("a name in a layer is too long", expected=f"at most {MAX_NAME} bytes", got=shown(name))
    return parts
