"""Where an enclave keeps long-lived secrets, and how its process is closed to others.

On SGX the enclave's memory is encrypted by the CPU and none of this matters. On the simulated CPU it is what keeps
keys from other containers, other users, core dumps and swap. It does not keep them from root, which can read a
process's ordinary memory; only what lives in a `Secret` of kind memfd_secret is out of reach even there, and Python and
OpenSSL copy a key into ordinary memory whenever they use it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
from typing import TYPE_CHECKING, Final, Literal, Self

from workers.enclave.tee.defects import tell_defects_by_place

if TYPE_CHECKING:
    from types import TracebackType

# Linux: include/uapi/asm-generic/unistd.h, linux/prctl.h, asm-generic/mman-common.h.
_SYS_MEMFD_SECRET: Final = 447
_PR_SET_DUMPABLE: Final = 4
_MADV_DONTDUMP: Final = 16
_libc = ctypes.CDLL(None, use_errno=True)


class Secret:
    """A fixed number of bytes that are wiped when they are no longer needed. Use it as a context manager.

    `kind` says where they are: "memfd_secret", pages that the kernel itself has unmapped, or "mlock", pages that are
    kept out of swap and core dumps. A process that forks shares them with its child; `close` in either wipes them for
    both. Misuse: `bytes(secret.view)` makes a copy that nothing wipes.
    """

    __slots__ = ("_map", "kind", "view")

    def __init__(self, size: int) -> None:
        """`size` zero bytes, at least one. `OSError` when RLIMIT_MEMLOCK has no room for another page."""
        self._map, self.kind = _pages(size)
        self.view = memoryview(self._map)[:size]

    @classmethod
    def of(cls, value: bytes | bytearray) -> Secret:
        """A copy of `value`. A bytearray is wiped; bytes cannot be, so let go of them at once."""
        secret = cls(len(value))
        secret.view[:] = value
        if isinstance(value, bytearray):
            value[:] = bytes(len(value))
        return secret

    def close(self) -> None:
        """Wipe the bytes and let go of them. Views that were handed out read zeros or fail. May be called again."""
        if not self._map.closed:
            self._map[:] = bytes(len(self._map))
            self.view.release()
            try:
                self._map.close()
            except BufferError:
                return  # someone still holds a view of the wiped pages; they go with it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Secret(kind={self.kind!r})"


def harden() -> None:
    """Close this process: no core dumps, nobody but root may attach to it or read its memory through /proc, and what it
    says of a defect is where it was (`defects`).

    Call it first of all in an enclave's program. The simulated CPU runs as root and still sees what it must
    (arguments, environment, root); a child keeps both settings until it executes another program, and the first of
    them after that as well.
    """
    tell_defects_by_place()
    # 1, not 0: see launch_policy.judge. What this process starts has it too.
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    if _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "PR_SET_DUMPABLE")


def locked_pages(length: int) -> mmap.mmap:
    """Whole pages kept out of swap and core dumps: what is left where the kernel has no memfd_secret."""
    pages = mmap.mmap(-1, length)
    pages.madvise(_MADV_DONTDUMP)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    if _libc.mlock(ctypes.c_void_p(start), ctypes.c_size_t(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "mlock")
    return pages


def _pages(size: int) -> tuple[mmap.mmap, Literal["memfd_secret", "mlock"]]:
    if size < 1:
        raise ValueError("a secret has at least one byte")
    length = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    fd = _libc.syscall(_SYS_MEMFD_SECRET, os.O_CLOEXEC)
    if fd < 0:
        return locked_pages(length), "mlock"
    try:
        os.ftruncate(fd, length)
        return mmap.mmap(fd, length), "memfd_secret"
    finally:
        os.close(fd)
