"""JSON from a stranger, read once and strictly: no member twice, no NaN, no half of a surrogate pair, no surprise type.

Zone: any. May import: the standard library.

`parse_object` gives plain values; the functions below take one member each out of an object and check its type. All
raise `Malformed`, a ValueError that the zone's edge turns into its own fault. Its text says which member and what was
expected, never the value: a value may be a secret.
"""

from __future__ import annotations

import base64
import json
from typing import TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]


class Malformed(ValueError):
    """What was read has not the agreed shape."""


def parse_object(text: bytes | str) -> JsonObject:
    """The object that `text` (UTF-8) holds, and nothing else in it (RFC 8259; I-JSON's RFC 7493 section 2.3)."""
    try:
        value: JsonValue = json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            object_pairs_hook=_each_name_once,
            parse_constant=_refuse_constant,
        )
        # 1e999 reads as infinity and "\ud800" as half a character: neither can be written again.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed("not a JSON document") from None
    if not isinstance(value, dict):
        raise Malformed("not a JSON object")
    return value


def only(members: JsonObject, *names: str) -> None:
    """`Malformed` when `members` has a name that is not among `names`."""
    if unknown := members.keys() - set(names):
        raise Malformed(f"unknown member {min(unknown)[:64]!r}")


def text(members: JsonObject, name: str) -> str:
    """The member `name`, a string."""
    value = members.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name}: a string is expected")
    return value


def integer(members: JsonObject, name: str) -> int:
    """The member `name`, a whole number (a boolean is none)."""
    value = members.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed(f"{name}: a whole number is expected")
    return value


def nested(members: JsonObject, name: str) -> JsonObject:
    """The member `name`, an object."""
    value = members.get(name)
    if not isinstance(value, dict):
        raise Malformed(f"{name}: an object is expected")
    return value


def strings(members: JsonObject, name: str) -> tuple[str, ...]:
    """The member `name`, an array of strings."""
    value = members.get(name)
    found = tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
    if not isinstance(value, list) or len(found) != len(value):
        raise Malformed(f"{name}: an array of strings is expected")
    return found


def base64_bytes(encoded: str, name: str, *, size: int | None = None) -> bytes:
    """The bytes of `encoded`, standard base64 with padding, in its one canonical form (RFC 4648 section 3.5)."""
    raw = _decode(encoded, name, altchars=None)
    return _checked(raw, name, size, canonical=base64.b64encode(raw).decode("ascii") == encoded)


def base64url_bytes(encoded: str, name: str, *, size: int | None = None) -> bytes:
    """The bytes of `encoded`, base64url without padding (RFC 7515 section 2), in its one canonical form."""
    raw = _decode(encoded + "=" * (-len(encoded) % 4), name, altchars=b"-_")
    return _checked(raw, name, size, canonical=base64url(raw) == encoded)


def base64url(raw: bytes) -> str:
    """`raw` as base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(encoded: str, name: str, *, altchars: bytes | None) -> bytes:
    try:
        return base64.b64decode(encoded.encode("ascii"), altchars=altchars, validate=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError are kinds of it
        raise Malformed(f"{name}: not base64") from None


def _checked(raw: bytes, name: str, size: int | None, *, canonical: bool) -> bytes:
    if not canonical:
        raise Malformed(f"{name}: not base64 in its canonical form")
    if size is not None and len(raw) != size:
        raise Malformed(f"{name}: {size} bytes are expected, {len(raw)} came")
    return raw


def _each_name_once(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("a member appears twice")
    return members


def _refuse_constant(_name: str) -> JsonValue:
    raise Malformed("NaN and Infinity are no JSON")
