"""The wire between an enclave and the simulated CPU: one request and one reply for each connection.

Zone: any. May import: the standard library and `schemas.sgx`.

A frame is a 4-byte big-endian length N and N bytes. In a request the first byte is an `Operation`, in a reply 0 or a
`Refusal`; the rest is the payload. The caller says nothing of who it is: the kernel does (SO_PEERPIDFD).

| operation | payload | reply |
|---|---|---|
| EREPORT | TARGETINFO 512, REPORTDATA 64 | REPORT 432 |
| EGETKEY | KEYREQUEST 512 | key 16 |
| QE_TARGET_INFO | nothing | TARGETINFO 512 of the quoting enclave |
| QUOTE | REPORT 432, made for the quoting enclave | DCAP quote, version 3 |

A refusal's payload is a sentence for a person, UTF-8, at most 512 bytes.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from schemas.sgx import KEY_REQUEST_BYTES, REPORT_BYTES, REPORT_DATA_BYTES, TARGET_INFO_BYTES

SOCKET_IN_ENCLAVE: Final = "/dev/enclave-cc/sgx.sock"
"""Where the host binds the daemon's socket into an enclave's container."""

LENGTH_BYTES: Final = 4
MAX_REQUEST_BYTES: Final = 1024
MAX_REPLY_BYTES: Final = 16 * 1024
MAX_REASON_BYTES: Final = 512


class Operation(IntEnum):
    """What an enclave may ask of its CPU and of the quoting enclave beside it."""

    EREPORT = 1
    EGETKEY = 2
    QE_TARGET_INFO = 3
    QUOTE = 4


PAYLOAD_BYTES: Final = {
    Operation.EREPORT: TARGET_INFO_BYTES + REPORT_DATA_BYTES,
    Operation.EGETKEY: KEY_REQUEST_BYTES,
    Operation.QE_TARGET_INFO: 0,
    Operation.QUOTE: REPORT_BYTES,
}


class Refusal(IntEnum):
    """Why the CPU will not."""

    NOT_AN_ENCLAVE = 1
    """The caller is not the first process of a namespace that was entered as an enclave."""
    NOT_AS_MEASURED = 2
    """The enclave's program, arguments, environment, root or bundle are not what was measured."""
    MALFORMED = 3
    """The request is not one of the table above: what an SGX instruction answers with #GP."""
    KEY_REFUSED = 4
    """EGETKEY has no such key for this enclave."""
    REPORT_MAC = 5
    """The report was not made on this CPU for the quoting enclave."""


_OPERATIONS: Final = frozenset(operation.value for operation in Operation)
_REFUSALS: Final = frozenset(refusal.value for refusal in Refusal)


class Refused(Exception):
    """The simulated CPU's answer where it is a no."""

    def __init__(self, refusal: Refusal, reason: str) -> None:
        super().__init__(f"{refusal.name}: {reason}")
        self.refusal = refusal
        self.reason = reason


def frame(content: bytes) -> bytes:
    """`content` behind its length."""
    return struct.pack(">I", len(content)) + content


def frame_length(header: bytes, bound: int) -> int:
    """The length that a 4-byte header announces; `Refused(MALFORMED)` for zero and for more than `bound`."""
    (length,) = struct.unpack(">I", header)
    if not 0 < length <= bound:
        raise Refused(Refusal.MALFORMED, f"a frame of {length} bytes; 1 to {bound} are allowed")
    return int(length)


def parse_request(content: bytes) -> tuple[Operation, bytes]:
    """Operation and payload of a request; `Refused(MALFORMED)` unless the payload has exactly its length."""
    if not content or content[0] not in _OPERATIONS:
        raise Refused(Refusal.MALFORMED, "no such operation")
    operation, payload = Operation(content[0]), content[1:]
    if len(payload) != PAYLOAD_BYTES[operation]:
        raise Refused(Refusal.MALFORMED, f"{operation.name} takes {PAYLOAD_BYTES[operation]} bytes, not {len(payload)}")
    return operation, payload


def refusal_reply(refused: Refused) -> bytes:
    """A reply's content that says no."""
    return bytes([refused.refusal]) + refused.reason.encode()[:MAX_REASON_BYTES]


def parse_reply(content: bytes) -> bytes:
    """The payload of a reply that says yes; raises the `Refused` of one that says no."""
    if not content:
        raise Refused(Refusal.MALFORMED, "an empty reply")
    if content[0] == 0:
        return content[1:]
    refusal = Refusal(content[0]) if content[0] in _REFUSALS else Refusal.MALFORMED
    raise Refused(refusal, content[1:].decode(errors="replace"))
