"""The decrypted image as one read-only file, through FUSE. The only import of pyfuse3.

Zone: enclave. May import: `pyfuse3`, `trio`, `store`.

The kernel's own EROFS mounts that file (`overlay`), so that lookups, directories and page cache are the kernel's, and
this process is asked for plain runs of bytes only, each of them once: timeouts are infinite and the cache is kept,
because a sealed store never changes.

The file holds every file of the image whatever its mode: it is readable by root only, and the mount admits nobody but
the user who made it.

An exception other than `FUSEError` in a handler would end the mount; every handler turns the unexpected into EIO.
Nothing in this process may touch a file below the roots it serves: it would wait for itself.
"""

# ruff: noqa: ARG002 - pyfuse3 chooses what its handlers are told

from __future__ import annotations

import errno
import functools
import gc
import logging
import os
import pathlib
import signal
import stat
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar

import pyfuse3
import trio

from workers.enclave.rootfs.store import SealedStore, StoreTampered

IMAGE_NAME = "rootfs.erofs"
"""The one file in the mount."""

_IMAGE = pyfuse3.InodeT(pyfuse3.ROOT_INODE + 1)
_FOREVER = float(1 << 30)
_OPTIONS = {"fsname=enclave-cc", "subtype=sealed", "default_permissions", "ro", "nosuid", "nodev", "noexec"}
_LOG = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def _contained(handler: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """`handler`, whose every failure is an errno."""

    @functools.wraps(handler)
    async def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await handler(*args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except StoreTampered as fault:
            _LOG.error("%s", fault.diagnostics())
            raise pyfuse3.FUSEError(errno.EIO) from fault
        except Exception as bug:
            _LOG.exception("a FUSE handler failed")
            raise pyfuse3.FUSEError(errno.EIO) from bug

    return run


class _OneFile(pyfuse3.Operations):
    """A directory with one file in it."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, store: SealedStore) -> None:
        super().__init__()
        self._store = store

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        if inode not in (pyfuse3.ROOT_INODE, _IMAGE):
            raise pyfuse3.FUSEError(errno.ENOENT)
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = pyfuse3.InodeT(inode)
        attributes.entry_timeout = attributes.attr_timeout = _FOREVER
        attributes.st_uid, attributes.st_gid = os.getuid(), os.getgid()
        attributes.st_blksize = 4096
        if inode == _IMAGE:
            attributes.st_mode = pyfuse3.ModeT(stat.S_IFREG | 0o400)
            attributes.st_nlink = 1
            attributes.st_size = self._store.image_bytes
            attributes.st_blocks = -(-self._store.image_bytes // 512)
        else:
            attributes.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o500)
            attributes.st_nlink = 2
        return attributes

    @_contained
    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if parent_inode != pyfuse3.ROOT_INODE or name != IMAGE_NAME.encode():
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(_IMAGE)

    @_contained
    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._attributes(inode)

    @_contained
    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    @_contained
    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        if fh == pyfuse3.ROOT_INODE and start_id == 0:
            pyfuse3.readdir_reply(token, pyfuse3.FileNameT(IMAGE_NAME.encode()), self._attributes(_IMAGE), 1)

    @_contained
    async def open(self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

    @_contained
    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        # pyfuse3 takes any buffer; its stub says bytes, and a copy of a megabyte for that would be a tenth of the time.
        return self._store.read(off, size)  # type: ignore[return-value]

    @_contained
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        return None

    @_contained
    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        return None

    @_contained
    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """Nothing to count: both inodes live as long as the mount."""

    @_contained
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = 4096
        answer.f_blocks = -(-self._store.image_bytes // 4096)
        answer.f_files, answer.f_namemax = 2, 255
        return answer


def serve(store: SealedStore, mountpoint: pathlib.Path, ready_fd: int) -> None:
    """Serves `store` as `<mountpoint>/rootfs.erofs` until it is unmounted, or SIGTERM or SIGINT comes.

    One byte goes to `ready_fd`, which is then closed, once the mount stands. Meant for a process of its own (see
    `server`), in its main thread. Raises `RuntimeError` where the kernel refuses the mount.
    """
    pyfuse3.init(_OneFile(store), str(mountpoint), set(_OPTIONS))
    try:
        os.write(ready_fd, b"\1")
        os.close(ready_fd)
        # Nothing is allocated from here on that would need collecting; a pause would be every reader's.
        gc.freeze()
        trio.run(_serve_until_told)
    finally:
        pyfuse3.close(unmount=True)


async def _serve_until_told() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on, signals)
            await pyfuse3.main()
            nursery.cancel_scope.cancel()


async def _stop_on(signals: object) -> None:
    async for _ in signals:  # type: ignore[attr-defined]
        pyfuse3.terminate()
