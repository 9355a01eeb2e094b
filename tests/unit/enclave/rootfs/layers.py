"""Layers made by Python's tarfile, and trees as the kernel shows them: what the tests of the root filesystem share.

Nothing here knows how our reader, merge or image work: a layer is written by the standard library, a tree is read by
lstat, readlink, listxattr and read.
"""

# ruff: noqa: PTH115, PTH118 - names are bytes here, which pathlib does not hold

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.enclave.rootfs.image import FileSink, ImageBuilder
from workers.enclave.rootfs.syscalls import MS_RDONLY, mount, unmount

REGULAR, LINK, SYMLINK, DIRECTORY = tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE
CHARACTER, BLOCK_DEVICE, FIFO = tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE


@dataclass(frozen=True)
class Item:
    """One thing in a layer. `mtime` is text, so that nanoseconds are not lost in a float."""

    name: bytes
    type: bytes = REGULAR
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: str = "1700000000"
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()


def archive(*items: Item, form: int = tarfile.PAX_FORMAT) -> bytes:
    """The items as a plain tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for item in items:
            info = tarfile.TarInfo(os.fsdecode(item.name))
            info.type, info.mode, info.uid, info.gid = item.type, item.mode, item.uid, item.gid
            info.size = len(item.content) if item.type == REGULAR else 0
            info.linkname = os.fsdecode(item.link)
            info.devmajor, info.devminor = item.device
            info.mtime = int(item.mtime.partition(".")[0])
            if "." in item.mtime:
                info.pax_headers["mtime"] = item.mtime
            for name, value in item.xattrs:
                info.pax_headers[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
            tar.addfile(info, io.BytesIO(item.content))
    return out.getvalue()


@dataclass(frozen=True)
class Seen:
    """What the kernel says of one path. `same` are the other names of the inode; `content` is a digest or a target."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    device: int
    links: int
    content: str
    xattrs: tuple[tuple[str, bytes], ...]
    same: tuple[bytes, ...]


def listing(root: Path) -> dict[bytes, Seen]:
    """Everything below `root`, and `root` itself under the empty name."""
    top = os.fsencode(root)
    paths = [b""]
    for directory, directories, files in os.walk(top):
        paths += [os.path.relpath(os.path.join(directory, name), top) for name in directories + files]
    inodes: dict[tuple[int, int], list[bytes]] = {}
    for path in paths:
        status = os.lstat(os.path.join(top, path))
        inodes.setdefault((status.st_dev, status.st_ino), []).append(path)
    return {path: _seen(os.path.join(top, path), inodes) for path in sorted(paths)}


def _seen(path: bytes, inodes: dict[tuple[int, int], list[bytes]]) -> Seen:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    content = ""
    if kind == stat.S_IFREG:
        content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
    elif kind == stat.S_IFLNK:
        content = repr(os.readlink(path))
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return Seen(
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        size=0 if kind == stat.S_IFDIR else status.st_size,
        device=status.st_rdev,
        links=0 if kind == stat.S_IFDIR else status.st_nlink,
        content=content,
        xattrs=tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names),
        same=tuple(sorted(inodes[status.st_dev, status.st_ino])),
    )


def write_image(path: Path, *layers: bytes) -> Path:
    """An EROFS image of the layers, in the clear; fsck.erofs must find no fault with it."""
    with FileSink(path) as sink:
        builder = ImageBuilder(sink)
        for layer in layers:
            builder.add_layer(io.BytesIO(layer))
        builder.finish()
    check = subprocess.run(["fsck.erofs", "--extract", path], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr
    return path


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    """`image` mounted by the kernel at `at`."""
    at.mkdir(exist_ok=True)
    mount(str(image), at, "erofs", MS_RDONLY)
    try:
        yield at
    finally:
        unmount(at)


def extracted(layer: bytes, at: Path) -> Path:
    """`layer` as GNU tar extracts it: the reference for what an archive means."""
    at.mkdir(exist_ok=True)
    command = [
        "tar",
        "--delay-directory-restore",
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "--same-owner",
        "-xpf",
        "-",
        "-C",
        at,
    ]
    subprocess.run(command, input=layer, check=True, capture_output=True)
    return at
