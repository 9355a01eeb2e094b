"""What one entry looks like, for a person and for a program.

Zone: any. May import: `click`, `orchestrator.{audit,cli}`, the standard library.
"""

from __future__ import annotations

from typing import Any

import click

from orchestrator.audit.merkle import leaf_hash
from orchestrator.audit.search import Found, statement
from orchestrator.cli import drawing
from orchestrator.cli.subcommand import print_json_line


def tell(found: Found, *, as_json: bool) -> None:
    """One entry on one line."""
    if as_json:
        print_json_line(document(found))
        return
    entry = found.entry
    whose = f"{entry.pod[: drawing.SHORT] or '-':{drawing.SHORT}} {entry.container[: drawing.SHORT] or '-':6}"
    failed = f"  {entry.transition}, attempt {entry.attempt}: {entry.code}" if entry.code else ""
    at = entry.at.replace("T", " ")[:23] or "-"
    line = f"{found.index:>8}  {at:23}  {whose}  {entry.zone or '-':7}  {entry.kind}{failed}  ({entry.actor})"
    click.echo(drawing.printable(line))


def document(found: Found) -> dict[str, Any]:
    """The entry as JSON. `cursor` is what `--after` takes to go on behind it."""
    summary = {name: value for name, value in found.entry.flat().items() if name != "index"}
    return {
        "index": found.index,
        "cursor": found.index + 1,
        "leaf_hash": leaf_hash(found.leaf).hex(),
        "place": found.entry.index,
        **summary,
        "statement": statement(found.entry),
    }
