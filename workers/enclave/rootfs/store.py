"""Reading a sealed store that someone else keeps.

Zone: enclave. May import: `format`, `crypto`, `orchestrator.faults`.

The file lies with the host, which may change it at any moment, also between two reads. So:

1. the file's size is one a store can have, before anything is allocated for it;
2. its magic and version are ours;
3. header and tags, once in private memory, hash to the root hash that came over the trusted channel;
4. only then are the header's fields read;
5. a unit's ciphertext is copied into private memory, and its tag is the pinned one, not one read beside it;
6. a unit is opened under its own index and store id, whole, and nothing of it is released before its tag held.

So a flipped bit, a unit in another's place, an older store of the same id, a cut or an extended file is found at 1 to
3 when it was there at opening, and at 5 and 6 when it came later: the read fails, and `on_tamper` is told.
"""

from __future__ import annotations

import hmac
import os
import pathlib
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Self

from cryptography.exceptions import InvalidTag

from orchestrator.faults import Code, Permanent
from workers.enclave.rootfs.crypto import StoreKey, UnitCipher
from workers.enclave.rootfs.format import (
    HEADER,
    TAG,
    UNIT,
    Header,
    HeaderInvalid,
    check_version,
    parse_header,
    root_hash,
    unit_offset,
    units_in,
)

_BATCH = 64


class Tampering(Enum):
    """What the host did to the file, as far as one can tell from what was found."""

    LENGTH = "the file's size is not a store's, or not the one it had"
    FORMAT = "the file is not a sealed store of this version"
    ROOT = "header and tags do not match the root hash"
    UNIT = "a unit does not match its tag"
    UNREADABLE = "the host's storage failed"


@dataclass(frozen=True, slots=True)
class TamperReport:
    """One finding. `unit` is the first unit concerned, or -1 for the file as a whole."""

    kind: Tampering
    unit: int = -1


class StoreTampered(Permanent):
    """The store cannot be believed (BOOT_STORE). `report` says which check it failed."""

    def __init__(self, report: TamperReport, got: str = "") -> None:
        where = f"unit {report.unit}: " if report.unit >= 0 else ""
        super().__init__(
            Code.BOOT_STORE,
            "the sealed root filesystem was altered",
            expected="the store as it was sealed",
            got=f"{where}{report.kind.value}{f' ({got})' if got else ''}",
            advice="launch the container again; if it happens again, mistrust the node or its disk",
        )
        self.report = report


OnTamper = Callable[[TamperReport], None]


class SealedStore:
    """An opened store. Made by `open_store`; close it, or use it as a context manager.

    `image_bytes` is the size of the plaintext image. Reads may come from several threads; they take turns.
    """

    def __init__(
        self, descriptor: int, header: Header, tags: bytearray, cipher: UnitCipher, on_tamper: OnTamper | None
    ) -> None:
        self.image_bytes = header.image_bytes
        self.units = header.units
        self.on_tamper = on_tamper
        self._descriptor = descriptor
        self._tags = tags
        self._cipher = cipher
        self._slots = memoryview(bytearray(_BATCH * (UNIT + TAG)))
        self._turn = threading.Lock()

    def read(self, offset: int, size: int) -> memoryview:
        """The image's bytes from `offset` on, `size` of them or up to its end.

        Raises `StoreTampered` where any unit concerned does not hold; then none of the bytes are released.
        """
        end = min(offset + size, self.image_bytes)
        if offset < 0 or offset >= end:
            return memoryview(b"")
        first, last = offset // UNIT, (end - 1) // UNIT
        plain = memoryview(bytearray((last + 1 - first) * UNIT))
        with self._turn:
            for start in range(first, last + 1, _BATCH):
                count = min(_BATCH, last + 1 - start)
                at = (start - first) * UNIT
                self._open_units(start, count, plain[at : at + count * UNIT])
        return plain[offset - first * UNIT : end - first * UNIT]

    def _open_units(self, start: int, count: int, plain: memoryview) -> None:
        slots = [self._slots[at : at + UNIT + TAG] for at in range(0, count * (UNIT + TAG), UNIT + TAG)]
        try:
            got = _read(self._descriptor, [slot[:UNIT] for slot in slots], unit_offset(start))
        except OSError as refusal:
            raise self._tampered(Tampering.UNREADABLE, start) from refusal
        if got != count * UNIT:
            raise self._tampered(Tampering.LENGTH, start + got // UNIT)
        for number, slot in enumerate(slots):
            unit = start + number
            slot[UNIT:] = self._tags[unit * TAG : (unit + 1) * TAG]
            try:
                self._cipher.open(unit, slot, plain[number * UNIT : (number + 1) * UNIT])
            except InvalidTag:
                raise self._tampered(Tampering.UNIT, unit) from None

    def _tampered(self, kind: Tampering, unit: int) -> StoreTampered:
        report = TamperReport(kind, unit)
        if self.on_tamper is not None:
            self.on_tamper(report)
        return StoreTampered(report)

    def fileno(self) -> int:
        """The descriptor of the sealed file."""
        return self._descriptor

    def close(self) -> None:
        """Closes the file and drops the cipher with its key."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            del self._cipher

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(path: pathlib.Path, key: StoreKey, pinned: bytes, on_tamper: OnTamper | None = None) -> SealedStore:
    """Opens the store at `path`, which must be the one whose root hash is `pinned` (32 bytes, from the agent).

    `on_tamper` is called for each later finding, from the thread that reads. Raises `StoreTampered` where the file is
    not that store, `Permanent` (BOOT_STORE) where it cannot be opened. The key may be wiped afterwards.
    """
    try:
        # O_NONBLOCK: the host may have put a fifo there, whose opening would never end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as refusal:
        raise Permanent(
            Code.BOOT_STORE,
            "the sealed root filesystem cannot be opened",
            expected=f"a file at {path}",
            got=os.strerror(refusal.errno or 0),
            advice="look whether the agent sealed it, and whether the host mounted it into this container",
        ) from refusal
    try:
        header, tags = _pinned(descriptor, pinned)
        return SealedStore(descriptor, header, tags, UnitCipher(key, header.store_id), on_tamper)
    except BaseException:
        os.close(descriptor)
        raise


def _pinned(descriptor: int, pinned: bytes) -> tuple[Header, bytearray]:
    """Header and tags, believed because they hash to `pinned`."""
    status = os.fstat(descriptor)
    raw = bytearray(HEADER)
    try:
        units = units_in(status.st_size if stat.S_ISREG(status.st_mode) else 0)
        tags = bytearray(units * TAG)
        got = _read(descriptor, [memoryview(raw)], 0) + _read(descriptor, [memoryview(tags)], unit_offset(units))
    except HeaderInvalid as wrong:
        raise StoreTampered(TamperReport(Tampering.LENGTH), str(wrong)) from None
    except OSError as refusal:
        raise StoreTampered(TamperReport(Tampering.UNREADABLE), os.strerror(refusal.errno or 0)) from refusal
    if got != len(raw) + len(tags):
        raise StoreTampered(TamperReport(Tampering.LENGTH))
    packed = bytes(raw)
    try:
        check_version(packed)
        if not hmac.compare_digest(root_hash(packed, tags), pinned):
            raise StoreTampered(TamperReport(Tampering.ROOT))
        header = parse_header(packed)
    except HeaderInvalid as wrong:
        raise StoreTampered(TamperReport(Tampering.FORMAT), str(wrong)) from None
    if header.units != units:
        raise StoreTampered(TamperReport(Tampering.LENGTH), f"{units} units, {header.units} sealed")
    return header, tags


def _read(descriptor: int, pieces: list[memoryview], offset: int) -> int:
    """Fills `pieces` in order; fewer bytes than they hold means the end of the file."""
    total = 0
    while pieces:
        count = os.preadv(descriptor, pieces, offset + total)
        if not count:
            break
        total += count
        while pieces and count >= len(pieces[0]):
            count -= len(pieces.pop(0))
        if pieces:
            pieces[0] = pieces[0][count:]
    return total
