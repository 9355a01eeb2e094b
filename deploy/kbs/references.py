"""Reference values: what the owner expects of good evidence, by name. Policies ask for them.

One JSON file, replaced whole. Source of the wire form: Trustee `rvps/src/extractors/sample/mod.rs`.
"""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Final

from deploy.kbs import durable
from schemas.strict_json import JsonObject, JsonValue, Malformed, base64_bytes, only, parse_object, text

if TYPE_CHECKING:
    from pathlib import Path

_VERSION: Final = "0.1.0"
_EXTRACTOR: Final = "sample"
_NAME: Final = re.compile(r"[A-Za-z0-9_\-.]{1,128}")
_MAX_VALUES: Final = 1024


def parse_message(body: bytes) -> JsonObject:
    """The names and values of a registration message; `Malformed` otherwise."""
    message = parse_object(body)
    only(message, "version", "type", "payload")
    if (text(message, "version"), text(message, "type")) != (_VERSION, _EXTRACTOR):
        raise Malformed(f"version {_VERSION} and type {_EXTRACTOR} are expected")
    values = parse_object(base64_bytes(text(message, "payload"), "payload"))
    if unusable := [name for name in values if not _NAME.fullmatch(name)]:
        raise Malformed(f"not a name of a reference value: {unusable[0][:64]!a}")
    return values


class ReferenceValues:
    """The registered values. A name is registered whole: a second value replaces the first."""

    def __init__(self, path: Path) -> None:
        """Read what is stored; `Malformed` when the file was damaged, for a broker must not appraise by half of it."""
        self._path = path
        self._turn = threading.Lock()
        self._values = parse_object(path.read_bytes()) if path.exists() else {}

    def query(self, name: str) -> JsonValue:
        """The value, or None where the owner registered none: a policy must treat that as "not allowed"."""
        return self._values.get(name)

    def register(self, values: JsonObject) -> None:
        """Add or replace; on the disk when this returns. `Malformed` when there would be too many."""
        with self._turn:
            merged = self._values | values
            if len(merged) > _MAX_VALUES:
                raise Malformed(f"at most {_MAX_VALUES} reference values are kept")
            durable.write(self._path, json.dumps(merged, ensure_ascii=False, indent=1, sort_keys=True).encode())
            self._values = merged
