"""What a list of launches is filtered by, as its address says it; and one page of the result.

Zone: host. May import: `orchestrator.{faults,lifecycle}`, `orchestrator.console.index`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Final
from urllib.parse import urlencode

from orchestrator.console.index import Group, Row
from orchestrator.lifecycle import State

PAGE: Final = 50
LONGEST: Final = 200
"""Characters of one condition; whatever is longer finds nothing that exists."""

MOST_PAGES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Query:
    """Conditions that all must hold; an empty one holds always. `state` is a `Group` or a `State`.

    `text` is words, each of which must occur somewhere in a row: ids, names, node, images, code.
    """

    state: str = ""
    node: str = ""
    namespace: str = ""
    code: str = ""
    text: str = ""
    page: int = 1

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Query:
        """From an address's parameters. What is not understood is left out, and so is not shown as if it filtered."""
        state, page = given.get("state", ""), given.get("page", "")
        texts = {name: given.get(name, "").strip()[:LONGEST] for name in ("node", "namespace", "code", "text")}
        return cls(
            state=state if state in Group.__members__.values() or state in State.__members__.values() else "",
            page=max(1, min(int(page), MOST_PAGES)) if page.isascii() and page.isdecimal() and len(page) < 7 else 1,
            **texts,
        )

    @property
    def narrows(self) -> bool:
        """Whether it leaves anything out."""
        return self != Query(page=self.page)

    def address(self, **changed: str | int) -> str:
        """The page's address with some conditions changed; conditions that hold always are left out."""
        asked = replace(self, **{"page": 1, **changed})  # type: ignore[arg-type]  # names are this class's own
        parts = {part.name: getattr(asked, part.name) for part in fields(asked)}
        said = {name: value for name, value in parts.items() if value and (name, value) != ("page", 1)}
        return "/launches" + (f"?{urlencode(said)}" if said else "")

    def admits(self, row: Row) -> bool:
        """Whether every condition holds."""
        return (
            (not self.state or self.state in (row.state, row.group))
            and (not self.node or self.node == row.node)
            and (not self.namespace or self.namespace == row.namespace)
            and (not self.code or self.code == row.code)
            and all(word in row.searched for word in self.text.lower().split())
        )


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a result: `number` of `count` pages, counted from 1, and `total` rows on all of them."""

    rows: tuple[Row, ...]
    number: int
    count: int
    total: int

    @property
    def first(self) -> int:
        """The place of the first row among all, counted from 1; 0 when there is none."""
        return (self.number - 1) * PAGE + 1 if self.rows else 0


def select(rows: Iterable[Row], query: Query) -> Page:
    """The rows that `query` admits, in the order given. A page after the last is the last."""
    found = [row for row in rows if query.admits(row)] if query.narrows else list(rows)
    count = max(1, -(-len(found) // PAGE))
    number = min(query.page, count)
    return Page(tuple(found[(number - 1) * PAGE : number * PAGE]), number, count, len(found))
