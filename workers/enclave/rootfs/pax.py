r"""Extended header records of a pax archive (POSIX.1-2017, pax, "pax Extended Header").

Zone: enclave. May import: `entry`.

A record is `<length> <keyword>=<value>\n`, the length counting the whole record. Values are bytes, because
extended attributes (`SCHILY.xattr.`, what every image builder writes) are binary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.enclave.rootfs.entry import MAX_NAME, malformed, shown

XATTR = b"SCHILY.xattr."
MAX_XATTR_VALUE = 65535
"""Bytes in a value: EROFS keeps the length in 16 bits; Linux allows one byte more, which no one uses."""

_LENGTH = re.compile(rb"[1-9][0-9]{0,7} ")
_NUMBER = re.compile(rb"[0-9]{1,19}")
_TIME = re.compile(rb"(-?)([0-9]{1,15})(?:\.([0-9]*))?")


@dataclass(frozen=True, slots=True)
class Overrides:
    """What an extended header says of the entry after it. None means: as the plain header has it."""

    path: bytes | None = None
    linkpath: bytes | None = None
    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


def records(block: bytes) -> dict[bytes, bytes]:
    """The records of an extended header, the last of each keyword. Raises `Permanent` where one is malformed."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(block):
        length = _LENGTH.match(block, at)
        end = at + int(length[0]) if length else 0
        if not length or end > len(block) or end <= length.end() or block[end - 1] != 0x0A:
            raise malformed("a pax record has a wrong length", got=shown(block[at : at + 64]))
        key, equals, value = block[length.end() : end - 1].partition(b"=")
        if not equals or not key:
            raise malformed("a pax record has no keyword", got=shown(block[at : at + 64]))
        found[key] = value
        at = end
    return found


def overrides(block: bytes) -> Overrides:
    """The records that matter to us. Unknown keywords are allowed by POSIX and left alone; an empty value unsets."""
    found = records(block)
    if any(key.startswith(b"GNU.sparse.") for key in found):
        raise malformed("a layer holds a sparse file", expected="plain files, as image builders write them")
    xattrs = sorted((key[len(XATTR) :], value) for key, value in found.items() if key.startswith(XATTR))
    for name, value in xattrs:
        if not 0 < len(name) <= MAX_NAME or b"\0" in name or len(value) > MAX_XATTR_VALUE:
            raise malformed("an extended attribute has a bad name or size", got=f"{shown(name)}: {len(value)} bytes")
    return Overrides(
        path=found.get(b"path") or None,
        linkpath=found.get(b"linkpath") or None,
        size=_number(found, b"size"),
        uid=_number(found, b"uid"),
        gid=_number(found, b"gid"),
        mtime_ns=_time(found.get(b"mtime", b"")),
        xattrs=tuple(xattrs),
    )


def _number(found: dict[bytes, bytes], key: bytes) -> int | None:
    value = found.get(key, b"")
    if not value:
        return None
    if not _NUMBER.fullmatch(value):
        raise malformed(f"the pax record {key.decode()} is not a number", got=shown(value))
    return int(value)


def _time(value: bytes) -> int | None:
    """Seconds with a decimal fraction, cut (not rounded) to nanoseconds towards the past, as GNU tar does."""
    if not value:
        return None
    time = _TIME.fullmatch(value)
    if not time:
        raise malformed("a pax time is not a number of seconds", got=shown(value))
    sign, seconds, fraction = time[1], time[2], time[3] or b""
    nanoseconds = int(seconds) * 10**9 + int(fraction[:9].ljust(9, b"0"))
    if not sign:
        return nanoseconds
    return -nanoseconds - (1 if fraction[9:].strip(b"0") else 0)
