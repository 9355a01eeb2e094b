"""`enclave-cc diff LAUNCH LAUNCH`: why did this one fail and that one not.

Zone: host. May import: `click`, `rich`, `orchestrator`, the standard library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from orchestrator.cli import drawing
from orchestrator.cli.describe import telling
from orchestrator.cli.sources import source
from orchestrator.cli.subcommand import Subcommand, answers_json, print_json, reads_the_bus
from orchestrator.replay.compare import Comparison, Difference, compare


@click.command(cls=Subcommand)
@click.argument("one")
@click.argument("other")
@answers_json
@reads_the_bus
def diff(one: str, other: str, config: Path | None, stack: str | None, *, as_json: bool) -> None:
    """Compare two launches: the step at which their ways part, and what was different before it.

    Each is the beginning of a pod's id, namespace/name, an exported file, or imported:ID.
    """
    told = [telling(found.pod, found.messages)[0] for found in (source(asked, config, stack) for asked in (one, other))]
    found = compare(told[0], told[1])
    if as_json:
        print_json({"comparison": _document(found)})
        return
    click.echo(drawing.printable(found.verdict))
    if found.parts_at is not None:
        _print("where they part", [found.parts_at])
    _print("different before that" if found.parts_at else "different", found.before)
    _print("different after that" if found.parts_at else "much slower", found.after)


def _print(heading: str, differences: Sequence[Difference]) -> None:
    if not differences:
        return
    click.echo(f"\n{heading}")
    table = drawing.table("where", "what", "here", "there")
    for difference in differences:
        cells = (difference.where, difference.what, difference.one or "-", difference.other or "-")
        table.add_row(*(drawing.text(cell) for cell in cells))
    drawing.show(table)


def _document(found: Comparison) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "parts_at": asdict(found.parts_at) if found.parts_at else None,
        "before": [asdict(difference) for difference in found.before],
        "after": [asdict(difference) for difference in found.after],
    }
