"""MRENCLAVE of a simulated enclave, computed by anyone who has the bundle's image file.

Source: Intel SDM volume 3D, ECREATE, EADD and EEXTEND: the measurement is SHA-256 over a log of 64-byte records, one
for each step of building the enclave. The enclave that is "built" here holds one TCS page at offset 0 and, from
offset 4096 on, read-only pages of this document in RFC 8785 form, zero padded:
`{"entry": {"argv", "cwd", "env"}, "image_sha256": "<64 hex>", "v": 1}`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import rfc8785

from orchestrator.faults import Code, Permanent
from workers.host.libos.entry import ENTRY_PATH, MAX_ENTRY_BYTES, Entry
from workers.host.libos.sim.erofs import ErofsImage

if TYPE_CHECKING:
    from pathlib import Path

FileState: TypeAlias = tuple[int, int, int, int, int]
"""Device, inode, size, modification and change time in nanoseconds."""

_PAGE: Final = 4096
_CHUNK: Final = 256
_SSA_FRAME_PAGES: Final = 1
_TCS_PAGE: Final = 0x100  # SECINFO.FLAGS: page type TCS
_READ_ONLY_PAGE: Final = 0x201  # page type REG, readable


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a bundle's image is. `image_sha256` lower-case hex, `mrenclave` 32 bytes; `entry` is inside the image."""

    image_sha256: str
    mrenclave: bytes
    entry: Entry


def measure_image(path: Path) -> Measurement:
    """Measure the image file at `path`. Pure: no daemon, no mount, no privilege beyond reading the file.

    `Permanent`: NOT_FOUND without the file or its manifest, INPUT when either is malformed or the file changes.
    """
    fd = open_image(path)
    try:
        return measure_fd(fd)
    finally:
        os.close(fd)


def open_image(path: Path) -> int:
    """A descriptor of the regular file at `path`; `Permanent`: NOT_FOUND without one, INPUT for something else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Permanent(
            Code.NOT_FOUND,
            "the bundle's image cannot be opened",
            expected=str(path),
            got=error.strerror or "",
            advice="install the node's bundles",
        ) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Permanent(Code.INPUT, "the bundle's image is no regular file", got=str(path))
    return fd


def measure_fd(fd: int) -> Measurement:
    """As `measure_image`, for a file that is already open."""
    before = file_state(fd)
    digest = sha256_of(fd)
    entry = Entry.parse(ErofsImage(fd).read_file(ENTRY_PATH, MAX_ENTRY_BYTES))
    if file_state(fd) != before:
        raise Permanent(Code.INPUT, "the bundle's image changed while it was measured", advice="measure it again")
    return Measurement(digest, mrenclave(digest, entry), entry)


def file_state(fd: int) -> FileState:
    """What moves whenever the open file is written, renamed, linked or unlinked."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def sha256_of(fd: int) -> str:
    """SHA-256 of a whole open file, lower-case hex; its offset stays where it was."""
    digest, at = hashlib.sha256(), 0
    while chunk := os.pread(fd, 1 << 20, at):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()


def mrenclave(image_sha256: str, entry: Entry) -> bytes:
    """The 32-byte measurement of an enclave made from that image with that entry."""
    document = rfc8785.dumps({"v": 1, "image_sha256": image_sha256, "entry": entry.document()})
    pages = -(-len(document) // _PAGE)
    enclave_bytes = 1 << ((pages + 1) * _PAGE - 1).bit_length()
    log = hashlib.sha256(struct.pack("<8sIQ44x", b"ECREATE", _SSA_FRAME_PAGES, enclave_bytes))
    _add_page(log, 0, _TCS_PAGE, bytes(_PAGE))
    for number in range(pages):
        content = document[number * _PAGE : (number + 1) * _PAGE].ljust(_PAGE, b"\0")
        _add_page(log, (number + 1) * _PAGE, _READ_ONLY_PAGE, content)
    return log.digest()


def _add_page(log: hashlib._Hash, offset: int, flags: int, content: bytes) -> None:
    log.update(struct.pack("<8sQQ40x", b"EADD", offset, flags))
    for at in range(0, _PAGE, _CHUNK):
        log.update(struct.pack("<8sQ48x", b"EEXTEND", offset + at))
        log.update(content[at : at + _CHUNK])
