"""`enclave-cc audit tail`, `search`, `show`, `export`: looking at entries.

Zone: any. May import: `click`, `orchestrator.{audit,cli,faults}`, the standard library.

What is shown is covered by a checkpoint that the policy accepts; `show` checks the entry's own inclusion too. `tail
--follow` also checks that each new checkpoint continues the one before it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from orchestrator.audit import search as searching
from orchestrator.audit.entry import Entry
from orchestrator.audit.export import FORMATS, header
from orchestrator.audit.merkle import check_consistency, check_inclusion, leaf_hash
from orchestrator.audit.search import Found, Query
from orchestrator.cli import drawing
from orchestrator.cli.audit.lines import document, tell
from orchestrator.cli.audit.places import Opened, open_log, reads_the_log
from orchestrator.cli.subcommand import Subcommand, answers_json, print_json

LOOK: Final = 0.5
"""Seconds between two looks of `tail --follow` at the checkpoint."""

LONGEST: Final = 400
"""Characters of one member that `show` prints: a quote has thousands."""

INTERRUPTED: Final = 130
_Command = TypeVar("_Command", bound=Callable[..., Any])
_FIELDS: Final = ("launch", "actor", "zone", "code", "kind", "container")


def filters(function: _Command) -> _Command:
    """The conditions: `query`'s arguments among the command's."""
    for option in (
        click.option("--until", default="", metavar="TIME", help="Up to this time: 2026-01-31, 2026-01-31T12:00Z."),
        click.option("--since", default="", metavar="TIME", help="From this time on, UTC."),
        click.option("--where", multiple=True, metavar="FIELD=VALUE", help="Any field of the entry or of its fact."),
        *(
            click.option(
                f"--{name}", multiple=True, metavar=name.upper(), help=f"Of this {name}; several: any of them."
            )
            for name in reversed(_FIELDS)
        ),
        click.option("--after", type=click.IntRange(0), help="From this index on: the cursor of what was last shown."),
    ):
        function = option(function)
    return function


def query(where: Iterable[str], since: str, until: str, fields: dict[str, tuple[str, ...]], opened: Opened) -> Query:
    """What the filters ask for. Raises Permanent(INPUT)."""
    conditions = list(where)
    for name, values in fields.items():
        for value in values:
            if name == "launch":
                conditions.append(f"pod={searching.find_pod(opened.reader, opened.size, value)}")
            else:
                conditions.append(f"{name}={value}")
    return Query.of(conditions, since, until)


@click.command(cls=Subcommand)
@click.option("-n", "--lines", type=click.IntRange(0), default=10, show_default=True, help="How many of the last.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@filters
@answers_json
@reads_the_log
def tail(lines: int, *, follow: bool, as_json: bool, after: int | None, **asked: Any) -> None:
    """The last entries, or those from --after on."""
    opened, wanted = _open(asked)
    start = after if after is not None else max(0, opened.size - lines)
    try:
        for found in _follow(opened, wanted, start, asked) if follow else _among(opened, wanted, start):
            tell(found, as_json=as_json)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@click.command(cls=Subcommand)
@click.option("--limit", type=click.IntRange(1), help="End after so many.")
@filters
@answers_json
@reads_the_log
def search(limit: int | None, *, as_json: bool, after: int | None, **asked: Any) -> None:
    """Every entry that the filters ask for, the oldest first."""
    opened, wanted = _open(asked)
    found = None
    for count, found in enumerate(_among(opened, wanted, after or 0), 1):
        tell(found, as_json=as_json)
        if count == limit:
            return
    if found is None and not as_json:
        click.echo(f"no entry is like this among the {opened.size:,} that the checkpoint covers", err=True)


@click.command(cls=Subcommand)
@click.argument("index", type=click.IntRange(0))
@answers_json
@reads_the_log
def show(index: int, *, as_json: bool, **asked: Any) -> None:
    """One entry in full, after its inclusion in the log was checked."""
    opened = open_log(**asked)
    tree = opened.accepted.checkpoint
    leaf = opened.reader.entry(index, tree.size)
    proof = opened.reader.prove_inclusion(index, tree.size)
    check_inclusion(leaf_hash(leaf), index, tree.size, proof, tree.root)
    found = Found(index, leaf, Entry.decode(leaf))
    if as_json:
        print_json(document(found) | {"included_at_size": tree.size})
        return
    rows = document(found)
    told = rows.pop("statement")
    for name, value in {**rows, **told}.items():
        click.echo(drawing.printable(f"{name:16} {_short(str(value))}"))
    click.echo(f"in the log       at size {tree.size}, by {len(proof)} hashes")


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[:64]}… ({len(value):,} characters; --json has them all)"


@click.command(cls=Subcommand)
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), default="jsonl", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: standard output.")
@filters
@reads_the_log
def export(format_: str, out: Path | None, *, after: int | None, **asked: Any) -> None:
    """Entries for other tools, one a line. A line of jsonl is a leaf's exact bytes: its hash is in the log."""
    opened, wanted = _open(asked)
    write = FORMATS[format_]
    with click.open_file(str(out or "-"), "w", encoding="utf-8", lazy=False) as stream:
        if first := header(format_):
            stream.write(f"{first}\n")
        for found in _among(opened, wanted, after or 0):
            stream.write(f"{write(found)}\n")


def _open(asked: dict[str, Any]) -> tuple[Opened, Query]:
    """The log, and what was asked of it; takes the filters out of `asked` and leaves what finds the log."""
    fields = {name: asked.pop(name) for name in _FIELDS}
    where, since, until = (asked.pop(name) for name in ("where", "since", "until"))
    opened = open_log(**asked)
    return opened, query(where, since, until, fields, opened)


def _among(opened: Opened, wanted: Query, start: int) -> Iterator[Found]:
    return searching.search(opened.reader, opened.size, wanted, start)


def _follow(opened: Opened, wanted: Query, start: int, asked: dict[str, Any]) -> Iterator[Found]:
    """What is there, and then what comes. Raises Permanent(AUDIT_FORK, AUDIT_ROLLBACK) for a log that did not grow."""
    seen = opened.accepted.checkpoint
    yield from _among(opened, wanted, start)
    while True:
        time.sleep(LOOK)
        opened = open_log(**asked)
        tree = opened.accepted.checkpoint
        if tree == seen:
            continue
        proof = opened.reader.prove_consistency(seen.size, tree.size) if seen.size <= tree.size else ()
        check_consistency(seen.size, seen.root, tree.size, tree.root, proof)
        yield from _among(opened, wanted, max(start, seen.size))
        seen = tree
