"""Writing a sealed store, straight from the layers: no plaintext reaches a disk.

Zone: enclave. May import: `format`, `crypto`, `image`, `orchestrator.faults`.

`SealingWriter` is what the agent uses. Layers go through the merge and the EROFS writer into `UnitSink`, which seals
64 units at a time. Every unit is sealed once: the first one, which holds the superblock, waits in memory until the
end. The store is not synced to the disk: its key lives in enclave memory only, so that a store never outlives the
power failure a sync would guard against.
"""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from orchestrator.faults import Code, Fault, Permanent, Temporary
from workers.enclave.rootfs.crypto import StoreKey, UnitCipher
from workers.enclave.rootfs.entry import Piece
from workers.enclave.rootfs.erofs_format import BLOCK
from workers.enclave.rootfs.format import (
    MAX_UNITS,
    STORE_ID,
    TAG,
    UNIT,
    Header,
    file_size,
    pack_header,
    root_hash,
    unit_offset,
)
from workers.enclave.rootfs.image import ImageBuilder
from workers.enclave.rootfs.tar import ByteStream

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Sealed:
    """A finished store. `root_hash` (32 bytes) and `key` must reach its reader over a trusted channel.

    `size` is the file's, `image_bytes` the plaintext image's, `files` counts inodes of every kind, `content_bytes`
    what regular files hold, `xattrs_dropped` the extended attributes that could not be kept.
    """

    path: pathlib.Path
    key: StoreKey
    root_hash: bytes
    store_id: bytes
    size: int
    units: int
    image_bytes: int
    files: int
    content_bytes: int
    xattrs_dropped: int


class UnitSink:
    """An image, sealed into the open file `descriptor` as it comes (an `ImageSink`). Raises `OSError`.

    The key must seal nothing else, ever; `SealingWriter` makes a fresh one.
    """

    def __init__(self, descriptor: int, key: StoreKey, store_id: bytes) -> None:
        self._descriptor = descriptor
        self._cipher = UnitCipher(key, store_id)
        self._store_id = store_id
        self._plain = memoryview(bytearray(_BATCH * UNIT))
        self._sealed = memoryview(bytearray(_BATCH * (UNIT + TAG)))
        self._filled = BLOCK
        self._first = b""
        self._tags = bytearray()
        self._written = 0

    def append(self, data: Piece, /) -> None:
        """See `ImageSink`."""
        rest = memoryview(data)
        while rest:
            taken = min(len(rest), len(self._plain) - self._filled)
            self._plain[self._filled : self._filled + taken] = rest[:taken]
            self._filled += taken
            rest = rest[taken:]
            if self._filled == len(self._plain):
                self._flush()

    def finish(self, first_block: bytes, /) -> None:
        """See `ImageSink`; the file is whole afterwards."""
        image_bytes = self._written * UNIT + self._filled
        padding = -self._filled % UNIT
        self._plain[self._filled : self._filled + padding] = bytes(padding)
        self._filled += padding
        self._flush()
        units = self._written
        first = first_block + self._first[BLOCK:]
        self._first = b""
        self._seal(0, memoryview(first))
        self.header = Header(self._store_id, image_bytes, units)
        packed = pack_header(self.header)
        _write(self._descriptor, [memoryview(self._tags)], unit_offset(units))
        _write(self._descriptor, [memoryview(packed)], 0)
        self.root_hash = root_hash(packed, self._tags)
        self._plain[:] = bytes(len(self._plain))

    def _flush(self) -> None:
        """Seals the units gathered; the first of all is set aside."""
        filled = self._plain[: self._filled]
        first = self._written
        if not first and self._filled:
            self._first = bytes(filled[:UNIT])
            self._tags += bytes(TAG)
            self._written, filled = 1, filled[UNIT:]
        self._seal(self._written, filled)
        self._written = first + self._filled // UNIT
        self._filled = 0

    def _seal(self, index: int, plain: memoryview) -> None:
        count = len(plain) // UNIT
        if index + count > MAX_UNITS:
            raise OSError(errno.EFBIG, f"more than {MAX_UNITS} units")
        slots = [self._sealed[at : at + UNIT + TAG] for at in range(0, count * (UNIT + TAG), UNIT + TAG)]
        for number, slot in enumerate(slots):
            self._cipher.seal(index + number, plain[number * UNIT : (number + 1) * UNIT], slot)
            self._tags[(index + number) * TAG : (index + number + 1) * TAG] = slot[UNIT:]
        _write(self._descriptor, [slot[:UNIT] for slot in slots], unit_offset(index))


class SealingWriter:
    """Seals an image's layers into one store at `path`.

        with SealingWriter(path) as writer:
            for layer in layers:          # lowest first
                writer.add_layer(layer)
            sealed = writer.finish()

    The store appears under its name when it is finished; until then it is `<path>.partial`, which any failure
    removes, and which a writer that starts again replaces. Leaving the block without `finish()` aborts. Calls block;
    make them all from one thread.

    Raises `Permanent` (IMAGE_MALFORMED) for a bad layer, `Temporary` (SEAL_NO_SPACE, SEAL_FAILED) where the disk
    refuses, and whatever a layer's own stream raises. After a failure the writer can only be dropped.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._descriptor = -1
        self._closed = False
        self._key = StoreKey.generate()
        with self._faults():
            self._partial.unlink(missing_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._partial, flags, 0o600)
        self._store_id = os.urandom(STORE_ID)
        self._sink = UnitSink(self._descriptor, self._key, self._store_id)
        self._builder = ImageBuilder(self._sink)

    def add_layer(self, layer: ByteStream) -> None:
        """Reads one plain layer to its end; see `ImageBuilder.add_layer`."""
        with self._faults():
            self._builder.add_layer(layer)

    def finish(self) -> Sealed:
        """Writes the tree and the tags, and gives the store its name. The key passes to the caller."""
        with self._faults():
            summary = self._builder.finish()
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
            self._partial.replace(self._path)
            self._closed = True
        header = self._sink.header
        return Sealed(
            path=self._path,
            key=self._key,
            root_hash=self._sink.root_hash,
            store_id=self._store_id,
            size=file_size(header.units),
            units=header.units,
            image_bytes=header.image_bytes,
            files=summary.files,
            content_bytes=summary.content_bytes,
            xattrs_dropped=summary.xattrs_dropped,
        )

    def abort(self) -> None:
        """Removes the partial store and wipes its key. Does nothing once the store is finished, or twice."""
        if self._closed:
            return
        self._closed = True
        self._key.wipe()
        if self._descriptor >= 0:
            os.close(self._descriptor)
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Aborts on any failure, and says a disk's refusal as a fault."""
        if self._closed:
            raise Permanent(Code.SEAL_FAILED, "the sealing writer is closed", advice="start a new one")
        try:
            yield
        except OSError as refusal:
            self.abort()
            raise _sealing_fault(refusal) from refusal
        except BaseException:
            self.abort()
            raise


def _sealing_fault(refusal: OSError) -> Fault:
    got = os.strerror(refusal.errno) if refusal.errno else type(refusal).__name__
    if refusal.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Temporary(
            Code.SEAL_NO_SPACE, "the sealed store does not fit its disk", got=got, advice="free space on the node"
        )
    return Temporary(
        Code.SEAL_FAILED, "the sealed store cannot be written", got=got, advice="look at the node's disk and its log"
    )


def _write(descriptor: int, pieces: list[memoryview], offset: int) -> None:
    while pieces:
        written = os.pwritev(descriptor, pieces, offset)
        offset += written
        while pieces and written >= len(pieces[0]):
            written -= len(pieces.pop(0))
        if pieces:
            pieces[0] = pieces[0][written:]
