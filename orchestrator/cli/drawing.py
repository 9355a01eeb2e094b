"""How things look on a terminal: durations, ages, colours of states, bars, tables.

Zone: host. May import: `click`, `rich`, `orchestrator.{lifecycle,story}`, the standard library.

Without a terminal the same text comes without colours, in lines as long as they need to be.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Final

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.lifecycle import State

SHORT: Final = 12
"""Characters of an id that a person is shown."""

BAR: Final = 24
"""Columns of the longest duration's bar."""

PIPED: Final = 10_000
"""Columns of a line that no terminal breaks."""

_COLOURS: Final = {
    State.APP_BOOTED: "green",
    State.FAILED: "red",
    State.STOPPING: "yellow",
    State.EXITED: "dim",
    State.GONE: "dim",
}


def console() -> Console:
    """Standard output. Nothing is coloured or joined that was not asked to be."""
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPED)


def show(drawn: RenderableType) -> None:
    """Print a table or a page; without a terminal no line ends in blanks."""
    target = console()
    if target.is_terminal:
        target.print(drawn)
        return
    with target.capture() as captured:
        target.print(drawn)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def table(*headings: str) -> Table:
    """Columns without lines; what is too wide for the terminal is folded, not cut."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def state(value: State | str) -> Text:
    """A state in its colour."""
    known = State(value) if value in set(State) else None
    return Text(str(value), style=_COLOURS.get(known, "cyan") if known else "red")


def duration(nanoseconds: int) -> str:
    """As a person says it: `850 ms`, `4.1 s`, `3 min 5 s`."""
    milliseconds = nanoseconds / 1e6
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s"


def moment(at_ns: int) -> str:
    """A wall clock's time in UTC: `2026-01-01 00:00:00.010000`; a dash for none."""
    if not at_ns:
        return "-"
    seconds, rest = divmod(at_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest // 1000:06}"


def age(began_ns: int, now_ns: int) -> str:
    """How long ago, in one unit, as kubectl says it."""
    if not began_ns:
        return "-"
    seconds = max(0, now_ns - began_ns) // 10**9
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def bar(part: int, longest: int) -> Text:
    """A bar of at most BAR columns, in eighths of a column; something for whatever took time."""
    eighths = max(1, round(8 * BAR * part / longest)) if longest and part else 0
    whole, rest = divmod(eighths, 8)
    return Text("█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else ""), style="blue")


def printable(text: str) -> str:
    """Text that others wrote, without what would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def text(value: str, style: str = "") -> Text:
    """Text that others wrote, as one cell or line; see `printable`."""
    return Text(printable(value), style=style)
