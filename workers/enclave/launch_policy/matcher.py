"""How a rule of the launch policy says a text: exactly, by a pattern, or any.

    "text"                 this text
    {"pattern": "[0-9]+"}  a text the whole of which matches (Python's re, ASCII classes, '.' is any character)
    {"any": true}          every text

A pattern is never searched inside a text: the rule `{"pattern": "-v"}` does not admit `--exec -v`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from workers.enclave.image.document import Node

_LONGEST_PATTERN: Final = 4096


@dataclass(frozen=True, slots=True)
class Exactly:
    """One text."""

    text: str

    def admits(self, value: str) -> bool:
        """Whether `value` is it."""
        return value == self.text

    def __str__(self) -> str:
        return repr(self.text)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Every text that a regular expression matches from end to end."""

    rule: re.Pattern[str]

    def admits(self, value: str) -> bool:
        """Whether the whole of `value` matches."""
        return self.rule.fullmatch(value) is not None

    def __str__(self) -> str:
        return f"a text like {self.rule.pattern}"


@dataclass(frozen=True, slots=True)
class Anything:
    """Every text."""

    def admits(self, value: str) -> bool:  # noqa: ARG002 - every one
        """Always."""
        return True

    def __str__(self) -> str:
        return "any text"


Matcher = Exactly | Pattern | Anything


def parse_matcher(node: Node) -> Matcher:
    """Read one matcher.

    Raises:
        Permanent: the document's code, naming the place.
    """
    if node.is_text:
        return Exactly(node.text())
    pattern, anything = node.get("pattern"), node.get("any")
    node.finish()
    if pattern and not anything:
        try:
            return Pattern(re.compile(pattern.text(longest=_LONGEST_PATTERN), re.ASCII | re.DOTALL))
        except (re.error, OverflowError) as error:
            raise pattern.malformed("a regular expression", str(error)[:200]) from None
    if anything and not pattern and anything.flag():
        return Anything()
    raise node.malformed('a text, {"pattern": …} or {"any": true}', "something else")
