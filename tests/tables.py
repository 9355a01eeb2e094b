"""Tables that tests fill cell by cell and that are printed when the run is over, whichever process ran the tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

TABLE: Final = "table"
"""`record_property(TABLE, (title, row, column, cell))`, all strings."""

Tables = dict[str, dict[str, dict[str, str]]]


def collect(properties: Iterable[tuple[str, object]]) -> Tables:
    """Title to row to column to cell, each in the order in which it came first."""
    tables: Tables = {}
    for key, recorded in properties:
        if key == TABLE and isinstance(recorded, tuple | list):
            title, row, column, cell = (str(part) for part in recorded)
            tables.setdefault(title, {}).setdefault(row, {})[column] = cell
    return tables


def lines(rows: dict[str, dict[str, str]]) -> list[str]:
    """One table as text, its columns aligned. Indented: a row that began with E would pass for a failure's line."""
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    table = [["", *columns], *([row, *(cells.get(column, "") for column in columns)] for row, cells in rows.items())]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
