"""The sealed store's layout on disk, version 1: docs/formats/sealed-store.md in code.

Zone: enclave. May import: the standard library, `orchestrator.faults`.

    0               header, 4,096 bytes
    4,096           units: ciphertext, 16,384 bytes each
    then            tags: 16 bytes for each unit, in order

Pure: bytes in, values out. Nothing here holds a key, and nothing here says that what it parsed is true; the root hash
says that.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

MAGIC = b"enclave-cc/store"
VERSION = 1
HEADER = 4096
UNIT = 16384
"""Plaintext bytes in a unit, and ciphertext bytes on disk: four pages, the best of read amplification and speed."""
TAG = 16
STORE_ID = 16
MAX_UNITS = 1 << 24
"""256 GiB. Bounds what a reader allocates for tags (256 MiB) before it has authenticated anything."""

_FIELDS = struct.Struct("<16sII16sQQ")
_ROOT_TAG = b"enclave-cc/store-root/v1\0"


@dataclass(frozen=True, slots=True)
class Header:
    """`store_id` is 16 random bytes; `image_bytes` the plaintext image; `units` how many hold it."""

    store_id: bytes
    image_bytes: int
    units: int


class HeaderInvalid(ValueError):
    """A header that no writer of this version makes. The message says what is wrong with it."""


def pack_header(header: Header) -> bytes:
    """The header's 4,096 bytes, zeros after the fields."""
    fields = _FIELDS.pack(MAGIC, VERSION, UNIT, header.store_id, header.image_bytes, header.units)
    return fields + bytes(HEADER - len(fields))


def check_version(raw: bytes) -> None:
    """Raises `HeaderInvalid` where `raw` is not of a store this code can read."""
    magic, version, *_ = _FIELDS.unpack_from(raw)
    if magic != MAGIC:
        raise HeaderInvalid("not a sealed store")
    if version != VERSION:
        raise HeaderInvalid(f"version {version}, not {VERSION}")


def parse_header(raw: bytes) -> Header:
    """The header in `raw`, refused unless packing it again gives the same bytes. Raises `HeaderInvalid`."""
    check_version(raw)
    _, _, _, store_id, image_bytes, units = _FIELDS.unpack_from(raw)
    header = Header(store_id, image_bytes, units)
    if not 0 < units <= MAX_UNITS or not (units - 1) * UNIT < image_bytes <= units * UNIT:
        raise HeaderInvalid(f"{image_bytes} bytes in {units} units")
    if pack_header(header) != raw:
        raise HeaderInvalid("unknown unit size or bytes after the fields")
    return header


def unit_offset(index: int) -> int:
    """Where unit `index` begins in the file."""
    return HEADER + index * UNIT


def file_size(units: int) -> int:
    """The one size a store of `units` units can have."""
    return HEADER + units * (UNIT + TAG)


def units_in(size: int) -> int:
    """How many units a file of `size` bytes holds. Raises `HeaderInvalid` where no store has that size."""
    units, rest = divmod(size - HEADER, UNIT + TAG)
    if rest or not 0 < units <= MAX_UNITS:
        raise HeaderInvalid(f"a file of {size} bytes")
    return units


def root_hash(header: bytes, tags: bytes | bytearray) -> bytes:
    """SHA-256 over a domain tag, the header and all tags: 32 bytes that pin a store as it was finished."""
    digest = hashlib.sha256(_ROOT_TAG)
    digest.update(header)
    digest.update(tags)
    return digest.digest()
