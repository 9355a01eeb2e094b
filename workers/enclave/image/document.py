"""JSON that says where it is wrong: `schemas.strict_json` parses, a `Node` takes each value by its type and place.

A value never enters a fault (a document may hold keys); its place, `$.layers[2].digest`, and its type do. The fault's
code is the document's: a bad manifest, policy and packet are three different stories to whoever reads the history.

Misuse: reading members without `finish()` where the format is ours, so that a misspelled rule is silently no rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Permanent
from schemas import strict_json

if TYPE_CHECKING:
    import re

LONGEST_TEXT: Final = 64 * 1024
"""Characters. No member of any format here is longer; a key or a certificate is well below."""


def parse_object(raw: bytes, *, what: str, code: Code, limit: int) -> Node:
    """Parse `raw` as one JSON object of at most `limit` bytes.

    Args:
        raw: the document, UTF-8.
        what: its name in a fault, "image manifest".
        code: the code of every fault this document can cause.
        limit: bytes; checked before parsing.

    Raises:
        Permanent: `code`, when it is too long, no JSON, or no object.
    """
    if len(raw) > limit:
        raise Permanent(code, f"{what} is too long", expected=f"at most {limit} bytes", got=f"{len(raw)} bytes")
    try:
        value = strict_json.parse_object(raw)
    except strict_json.Malformed as error:
        raise Permanent(code, f"{what} is not strict JSON", expected="one JSON object", got=str(error)) from None
    return Node(value, what, "", code)


class Node:
    """One JSON value with its place in the document, `$.layers[2].digest`."""

    __slots__ = ("_code", "_path", "_taken", "_value", "_what")

    def __init__(self, value: object, what: str, path: str, code: Code) -> None:
        self._value = value
        self._what = what
        self._path = path
        self._code = code
        self._taken: set[str] = set()

    @property
    def path(self) -> str:
        """The place, "$" for the whole document."""
        return f"${self._path}"

    @property
    def is_text(self) -> bool:
        """Whether the value is a JSON string: for formats that admit a short and a long form."""
        return isinstance(self._value, str)

    @property
    def is_object(self) -> bool:
        """Whether the value is a JSON object: as `is_text`."""
        return isinstance(self._value, dict)

    def malformed(self, expected: str, got: str) -> Permanent:
        """The fault that says what this place should have held. `got` must hold no secret."""
        return Permanent(
            self._code,
            f"{self._what} is malformed at {self.path}",
            expected=expected,
            got=got,
            advice="compare the document with its format; the place is a path from its top",
        )

    # What a node can be taken as.

    def members(self) -> dict[str, Node]:
        """Its members, by name. Counts as taking none of them; for objects whose names are data."""
        members = self._members()
        self._taken = set(members)
        return {name: self._child(f".{name}", value) for name, value in members.items()}

    def elements(self, *, most: int) -> list[Node]:
        """Its elements, at most `most`."""
        if not isinstance(self._value, list):
            raise self.malformed("an array", _kind(self._value))
        if len(self._value) > most:
            raise self.malformed(f"at most {most} elements", str(len(self._value)))
        return [self._child(f"[{index}]", value) for index, value in enumerate(self._value)]

    def text(self, pattern: re.Pattern[str] | None = None, *, longest: int = LONGEST_TEXT) -> str:
        """A string; the whole of it matches `pattern` where one is given."""
        if not isinstance(self._value, str):
            raise self.malformed("a string", _kind(self._value))
        if len(self._value) > longest:
            raise self.malformed(f"at most {longest} characters", str(len(self._value)))
        if pattern is not None and not pattern.fullmatch(self._value):
            raise self.malformed(f"a string like {pattern.pattern}", f"{len(self._value)} other characters")
        return self._value

    def whole(self, *, most: int, least: int = 0) -> int:
        """An integer written as one, between `least` and `most`."""
        if not isinstance(self._value, int) or isinstance(self._value, bool):
            raise self.malformed("an integer", _kind(self._value))
        if not least <= self._value <= most:
            raise self.malformed(f"an integer between {least} and {most}", "one out of bounds")
        return self._value

    def flag(self) -> bool:
        """`true` or `false`."""
        if not isinstance(self._value, bool):
            raise self.malformed("true or false", _kind(self._value))
        return self._value

    def octets(self, length: int | None = None) -> bytes:
        """Canonical standard base64 (RFC 4648 section 4) of exactly `length` bytes where one is given."""
        try:
            return strict_json.base64_bytes(self.text(), self.path, size=length)
        except strict_json.Malformed as error:
            raise self.malformed("canonical standard base64", str(error)) from None

    # Members of an object.

    def get(self, name: str) -> Node | None:
        """The member `name`; None where it is absent or null."""
        value = self._members().get(name)
        self._taken.add(name)
        return None if value is None else self._child(f".{name}", value)

    def need(self, name: str) -> Node:
        """The member `name`; a fault where it is absent or null."""
        found = self.get(name)
        if found is None:
            raise self.malformed(f"a member {name!r}", "none")
        return found

    def finish(self) -> None:
        """Refuse members that nobody took. For formats that are ours: an unknown rule must not pass for no rule."""
        for name in self._members():
            if name not in self._taken:
                raise self.malformed(f"only the members {', '.join(sorted(self._taken))}", f"also {name!r}")

    def _members(self) -> dict[str, object]:
        value: object = self._value
        if not isinstance(value, dict):
            raise self.malformed("an object", _kind(value))
        return value

    def _child(self, step: str, value: object) -> Node:
        return Node(value, self._what, self._path + step, self._code)


def canonical_base64(text: str) -> bytes | None:
    """The bytes of canonical standard base64, or None: one value has one spelling."""
    try:
        return strict_json.base64_bytes(text, "")
    except strict_json.Malformed:
        return None


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        int: "an integer",
        float: "a number",
        bool: "a boolean",
    }
    return names.get(type(value), "null")
