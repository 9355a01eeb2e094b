"""What a workload writes, as records that only its owner can read: one line of text each.

Zone: any. May import: `cryptography`, `schemas.strict_json`, the standard library. docs/adr/0018 says why it is so.

    enclave-cc-output.1.<stream>.<kind>.<number>.<base64url>

| kind | number | the rest |
|---|---|---|
| head | 0 | a `Head`: whose output it is, and the output's key for each recipient |
| text | 0, 1, 2 ... within its stream | AES-256-GCM of what was written, with its tag |
| end | of the last record and one more | AES-256-GCM of nothing: the stream ends here, nothing is missing |

Each stream of a container has a key of its own, HKDF-SHA256 of the output's key with the SHA-256 of the head as salt
and the stream's name in its info: so a record opens in its own stream of its own container and nowhere else. The nonce
is the number; the line up to the last dot is authenticated with it. The head itself is repeated now and then, so that a
log whose beginning was rotated away still opens; who made it is proved by the history, which holds its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas import strict_json
from schemas.strict_json import Malformed, base64url, base64url_bytes

MARK: Final = "enclave-cc-output.1."
MOST_TEXT: Final = 8 * 1024
"""Bytes in one record: its line stays below containerd's 16 KiB, above which a line is split in a log file."""

MOST_RECIPIENTS: Final = 16
KEY_BYTES: Final = 32
STREAMS: Final = ("stdout", "stderr")

_INFO: Final = b"enclave-cc sealed output 1 "
_LINE: Final = re.compile(
    r"enclave-cc-output\.1\.(stdout|stderr)\.(head|text|end)\.(0|[1-9][0-9]{0,17})\.([A-Za-z0-9_-]{0,16000})", re.ASCII
)


class Kind(StrEnum):
    """What a record is."""

    HEAD = "head"
    TEXT = "text"
    END = "end"


@dataclass(frozen=True, slots=True)
class Record:
    """One line, parsed; nothing of it is authenticated yet."""

    stream: str
    kind: Kind
    number: int
    content: bytes

    @classmethod
    def parse(cls, line: str) -> Record:
        """Raises Malformed for a line that is no record."""
        match = _LINE.fullmatch(line)
        if match is None or (match[2] == Kind.HEAD and match[3] != "0"):
            raise Malformed("no record of sealed output")
        return cls(match[1], Kind(match[2]), int(match[3]), base64url_bytes(match[4], "content"))

    @property
    def name(self) -> str:
        """The line up to its content."""
        return f"{MARK}{self.stream}.{self.kind}.{self.number}."

    def line(self) -> str:
        """The line, without its end."""
        return self.name + base64url(self.content)


@dataclass(frozen=True, slots=True)
class Head:
    """Whose output it is. `wrapped` is a JWE in general JSON serialization (RFC 7516), whose plaintext is the key."""

    pod: str
    container: str
    attempt: int
    streams: tuple[str, ...]
    wrapped: str

    def encode(self) -> bytes:
        """Its bytes, in this one form."""
        members = {
            "pod": self.pod,
            "container": self.container,
            "attempt": self.attempt,
            "streams": list(self.streams),
            "wrapped": self.wrapped,
        }
        return json.dumps(members, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Head:
        """Raises Malformed."""
        members = strict_json.parse_object(raw)
        strict_json.only(members, "pod", "container", "attempt", "streams", "wrapped")
        head = cls(
            strict_json.text(members, "pod"),
            strict_json.text(members, "container"),
            strict_json.integer(members, "attempt"),
            strict_json.strings(members, "streams"),
            strict_json.text(members, "wrapped"),
        )
        if not head.streams or len(set(head.streams)) != len(head.streams) or set(head.streams) - set(STREAMS):
            raise Malformed("streams: stdout, stderr or both are expected")
        return head


class StreamKey:
    """Seals and opens one stream's records under the key of its output."""

    __slots__ = ("_cipher", "_stream")

    def __init__(self, key: bytes, head: bytes, stream: str) -> None:
        """`key`: the output's, 32 bytes; `head`: the head's bytes."""
        salt = hashlib.sha256(head).digest()
        derived = HKDF(hashes.SHA256(), KEY_BYTES, salt, _INFO + stream.encode("ascii")).derive(key)
        self._cipher = AESGCM(derived)
        self._stream = stream

    def seal(self, kind: Kind, number: int, text: bytes) -> Record:
        """A record. Never seal two texts under one number."""
        name = Record(self._stream, kind, number, b"").name
        return Record(self._stream, kind, number, self._cipher.encrypt(_nonce(number), text, name.encode("ascii")))

    def open(self, record: Record) -> bytes | None:
        """What was written; None for a record that is not of this stream, or not as it was sealed."""
        try:
            return self._cipher.decrypt(_nonce(record.number), record.content, record.name.encode("ascii"))
        except InvalidTag:
            return None


class StreamWriter:
    """One stream's records in their order."""

    REPEAT_BYTES: Final = 1 << 20
    """Bytes of lines after which the head comes again: a log file is rotated at ten times as many."""

    def __init__(self, key: bytes, head: bytes, stream: str) -> None:
        self._key = StreamKey(key, head, stream)
        self._head = head
        self._stream = stream
        self._number = 0
        self._since_head = self.REPEAT_BYTES

    def text(self, written: bytes) -> bytes:
        """Lines for what was written, at most MOST_TEXT bytes of it."""
        if not 0 < len(written) <= MOST_TEXT:
            raise ValueError(f"{len(written)} bytes do not fit a record")
        return self._lines(Kind.TEXT, written)

    def end(self) -> bytes:
        """The last line. Nothing may be sealed after it."""
        return self._lines(Kind.END, b"")

    def _lines(self, kind: Kind, written: bytes) -> bytes:
        lines = []
        if self._since_head >= self.REPEAT_BYTES:
            lines.append(Record(self._stream, Kind.HEAD, 0, self._head).line())
            self._since_head = 0
        lines.append(self._key.seal(kind, self._number, written).line())
        self._number += 1
        raw = "".join(f"{line}\n" for line in lines).encode("ascii")
        self._since_head += len(raw)
        return raw


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
