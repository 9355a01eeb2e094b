"""A source that is read by a thread of its own, a few megabytes ahead: the network waits for the decompressor no more.

TLS and zlib both leave the interpreter's lock alone, so that a fetch and a decompression share two processors.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from workers.enclave.image.layers import ByteSource

CHUNK: Final = 256 * 1024
DEPTH: Final = 16
"""Chunks that wait at most: 4 MiB, which is what a gigabit brings while a slow disk takes a breath."""

_PATIENCE_SECONDS: Final = 0.05


class ReadAhead:
    """A `ByteSource` around another. The thread starts with the first `read` and ends with the source, or with `close`.

    `close` closes the source first, so that a thread in its `read` comes back, and then waits for that thread.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._chunks: queue.Queue[bytes | BaseException] = queue.Queue(DEPTH)
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._stopped = threading.Event()
        self._rest = b""
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; b"" at the end only. Raises what the source raised."""
        if not self._rest and not self._ended:
            if self._thread.ident is None:
                self._thread.start()
            chunk = self._chunks.get()
            if isinstance(chunk, BaseException):
                raise chunk
            self._rest = chunk
            self._ended = not chunk
        head, self._rest = self._rest[:size], self._rest[size:]
        return head

    def close(self) -> None:
        """Close the source and see the thread end."""
        self._stopped.set()
        self._source.close()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        chunk: bytes | BaseException = b"begin"
        while chunk and not isinstance(chunk, BaseException):
            try:
                chunk = self._source.read(CHUNK)
            except BaseException as error:  # noqa: BLE001 - raised again where the bytes are awaited
                chunk = error
            if not self._put(chunk):
                return

    def _put(self, chunk: bytes | BaseException) -> bool:
        while not self._stopped.is_set():
            try:
                self._chunks.put(chunk, timeout=_PATIENCE_SECONDS)
            except queue.Full:
                continue
            return True
        return False
