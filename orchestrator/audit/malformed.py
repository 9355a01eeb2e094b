"""What every parser here raises, and the two encodings that all these formats share.

Zone: any. May import: `orchestrator.faults`, the standard library. Pure.

`int()` and `b64decode()` accept far more than the formats do ('+0_5', '٥', stray bits); nothing read from outside may
reach them unchecked.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from orchestrator.faults import Code, Permanent

MAX_INTEGER: Final = (1 << 63) - 1
"""Sizes, indices and times fit a signed 64-bit integer, as in every other implementation."""

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def malformed(what: str, expected: str, got: str) -> Permanent:
    """The one error of a parser: AUDIT_FORMAT. `got` is cut to 200 characters and printable."""
    return Permanent(
        Code.AUDIT_FORMAT,
        f"{what} is malformed",
        expected=expected,
        got=ascii(got[:200]),
        advice="it was damaged or altered, or something else wrote it: get it again from its source",
    )


def decimal(text: str, what: str) -> int:
    """ASCII decimal without sign or leading zeros, at most 2^63 - 1. Raises Permanent(AUDIT_FORMAT)."""
    if not _DECIMAL.fullmatch(text) or (value := int(text)) > MAX_INTEGER:
        raise malformed(what, "an ASCII decimal below 2^63 without leading zeros", text)
    return value


def canonical_base64(text: str, what: str, size: int | None = None) -> bytes:
    """Standard base64 (RFC 4648 section 4) in its one canonical form. Raises Permanent(AUDIT_FORMAT)."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise malformed(what, "standard base64", text) from None
    if base64.b64encode(raw).decode("ascii") != text:
        raise malformed(what, "canonical base64", text)
    if size is not None and len(raw) != size:
        raise malformed(what, f"{size} bytes in base64", f"{len(raw)} bytes")
    return raw


def encode_base64(raw: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(raw).decode("ascii")
