"""Layers merged into one tree, in memory, as the OCI image specification says (layer.md, "Applying Changesets").

Zone: enclave. May import: `entry`.

The rules:

1. An entry replaces what stood at its path; only a directory over a directory keeps the children and takes the new
   attributes.
2. `.wh.<name>` removes what LOWER layers put at `<name>`, `.wh..wh..opq` all that lower layers put in its directory;
   neither touches what its own layer adds, whichever of them comes first in the archive.
3. Parents are found as containerd finds them: symbolic links are followed, below the root and never out of it;
   missing ones are made (mode 0755, root, time 0).
4. A hard link needs its target to stand already, and it may not be a directory.

To keep rule 2 in one pass, each directory remembers the names its current layer touched (`fresh`). Names are the only
state a layer needs; they are dropped when the next layer begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from workers.enclave.rootfs.entry import MAX_NAME, Attributes, Entry, Kind, Path, malformed, shown

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
RESERVED = b".wh..wh."
"""Other names with this prefix are bookkeeping of AUFS. containerd leaves them out, and so do we."""

MAX_LINKS = 40
"""Symbolic links followed for one path; Linux has the same bound (MAXSYMLINKS)."""

IMPLICIT = Attributes(permissions=0o755)
"""Of a directory that no layer describes."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a regular file's bytes are: `size` bytes from image block `block` on, contiguous."""

    block: int
    size: int


NOTHING = Extent(0, 0)


@dataclass(slots=True, eq=False)
class Directory:
    """A directory. `described` is the layer that last gave its attributes."""

    attributes: Attributes
    described: int = 0
    children: dict[bytes, Node] = field(default_factory=dict)
    fresh: set[bytes] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class RegularFile:
    """A regular file, under one name or several."""

    attributes: Attributes
    extent: Extent


@dataclass(slots=True, eq=False)
class Symlink:
    """A symbolic link."""

    attributes: Attributes
    target: bytes


@dataclass(slots=True, eq=False)
class Special:
    """A device or a fifo. `kind` is CHARACTER, BLOCK or FIFO."""

    attributes: Attributes
    kind: Kind
    device: tuple[int, int]


Node = Directory | RegularFile | Symlink | Special
"""An inode. Two names of one inode are one object; nodes compare by identity."""


def is_bookkeeping(path: Path) -> bool:
    """Whether an entry at `path` is a whiteout or AUFS's own, so that its content is of no use."""
    return any(part.startswith(WHITEOUT) for part in path)


class LayeredTree:
    """The merged tree. `begin_layer()` before each layer, lowest first, then `apply()` each of its entries."""

    def __init__(self) -> None:
        self.root = Directory(IMPLICIT)
        self._layer = 0
        self._touched: list[Directory] = []

    def begin_layer(self) -> None:
        """From here on, whiteouts mean everything applied so far."""
        self._layer += 1
        for directory in self._touched:
            directory.fresh = set()
        self._touched = []

    def apply(self, entry: Entry, extent: Extent = NOTHING) -> None:
        """Merges one entry. `extent` says where a regular file's bytes were put.

        Raises `Permanent` (IMAGE_MALFORMED) for a name whose parent is no directory, a hard link to nothing, a loop
        of symbolic links, or a whiteout of no name.
        """
        if not entry.path:
            if entry.kind is not Kind.DIRECTORY:
                raise malformed("the root of a layer is not a directory", expected="directory", got=entry.kind.value)
            self.root.attributes, self.root.described = entry.attributes, self._layer
            return
        name = entry.path[-1]
        if any(part.startswith(RESERVED) and part != OPAQUE for part in entry.path):
            return
        if any(part.startswith(WHITEOUT) for part in entry.path[:-1]):
            raise malformed("a whiteout is used as a directory", got=shown(b"/".join(entry.path)))
        parent = self._parent(entry.path)
        if name == OPAQUE:
            self._hide_lower(parent)
        elif name.startswith(WHITEOUT):
            self._whiteout(parent, name[len(WHITEOUT) :])
        elif entry.kind is Kind.DIRECTORY:
            self._put_directory(parent, name, entry.attributes)
        elif entry.kind is Kind.HARDLINK:
            self._put(parent, name, self._link_target(entry))
        else:
            self._put(parent, name, _new_node(entry, extent))

    def _put(self, parent: Directory, name: bytes, node: Node) -> None:
        parent.children[name] = node
        self._freshen(parent, name)

    def _put_directory(self, parent: Directory, name: bytes, attributes: Attributes) -> None:
        standing = parent.children.get(name)
        if isinstance(standing, Directory):
            standing.attributes, standing.described = attributes, self._layer
            self._freshen(parent, name)
        else:
            self._put(parent, name, Directory(attributes, self._layer))

    def _freshen(self, parent: Directory, name: bytes) -> None:
        if not parent.fresh:
            self._touched.append(parent)
        parent.fresh.add(name)

    def _whiteout(self, parent: Directory, name: bytes) -> None:
        if name in (b"", b".", b".."):
            raise malformed("a whiteout hides no name", got=shown(WHITEOUT + name))
        if name not in parent.fresh:
            parent.children.pop(name, None)
            return
        standing = parent.children.get(name)
        if isinstance(standing, Directory):
            self._forget_lower_attributes(standing)
            self._hide_lower(standing)

    def _hide_lower(self, directory: Directory) -> None:
        # A stack and not recursion: a path may have two thousand components.
        pending = [directory]
        while pending:
            here = pending.pop()
            here.children = {name: node for name, node in here.children.items() if name in here.fresh}
            for node in here.children.values():
                if isinstance(node, Directory):
                    self._forget_lower_attributes(node)
                    pending.append(node)

    def _forget_lower_attributes(self, directory: Directory) -> None:
        if directory.described != self._layer:
            directory.attributes, directory.described = IMPLICIT, self._layer

    def _parent(self, path: Path) -> Directory:
        """The directory an entry goes to, made where it is missing; it and its ancestors are fresh."""
        trail = self._walk(path[:-1], make=True)
        if trail is None or not isinstance(trail[-1][1], Directory):
            raise malformed("an entry's parent is not and cannot be a directory", got=shown(b"/".join(path)))
        for (_, above), (name, _) in pairwise(trail):
            if isinstance(above, Directory):
                self._freshen(above, name)
        return trail[-1][1]

    def _link_target(self, entry: Entry) -> Node:
        trail = self._walk(entry.link[:-1], make=False) if entry.link else None
        directory = trail[-1][1] if trail else None
        node = directory.children.get(entry.link[-1]) if isinstance(directory, Directory) else None
        if node is None or isinstance(node, Directory):
            raise malformed(
                "a hard link points to nothing that can be linked",
                expected="an entry before it that is not a directory",
                got=f"{shown(b'/'.join(entry.path))} to {shown(b'/'.join(entry.link))}",
            )
        return node

    def _walk(self, path: Iterable[bytes], *, make: bool) -> list[tuple[bytes, Node]] | None:
        """The (name, directory) pairs from the root to `path`, links followed; None where the way is barred."""
        trail: list[tuple[bytes, Node]] = [(b"", self.root)]
        pending = list(path)[::-1]
        links = 0
        while pending:
            name = pending.pop()
            here = trail[-1][1]
            if name in (b"", b"."):
                continue
            if not isinstance(here, Directory):
                return None
            if name == b"..":
                # Above the root is the root: so chroot(2) has it.
                del trail[max(1, len(trail) - 1) :]
                continue
            child = here.children.get(name)
            if child is None:
                if not make or len(name) > MAX_NAME:
                    return None
                child = here.children[name] = Directory(IMPLICIT, self._layer)
            if isinstance(child, Symlink):
                links += 1
                if links > MAX_LINKS:
                    raise malformed("a path in a layer goes round in symbolic links", got=shown(child.target))
                if child.target.startswith(b"/"):
                    del trail[1:]
                pending += child.target.split(b"/")[::-1]
            else:
                trail.append((name, child))
        return trail


def _new_node(entry: Entry, extent: Extent) -> Node:
    if entry.kind is Kind.REGULAR:
        return RegularFile(entry.attributes, extent)
    if entry.kind is Kind.SYMLINK:
        return Symlink(entry.attributes, entry.target)
    return Special(entry.attributes, entry.kind, entry.device)
