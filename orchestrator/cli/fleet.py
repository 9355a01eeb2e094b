"""The options by which a subcommand is told which launches of a fleet are meant, and finding those.

Zone: host. May import: `click`, `orchestrator.{bus,cli,events,faults,lifecycle,replay}`, the standard library.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final, TypeVar

import click

from orchestrator.bus import Histories
from orchestrator.cli.sources import Source
from orchestrator.events import Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.lifecycle import LAUNCH_STATES, State
from orchestrator.replay.at import parse_time
from orchestrator.replay.query import Query

_AGO: Final = re.compile(r"([1-9][0-9]{0,6})([smhd])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_Command = TypeVar("_Command", bound=Callable[..., Any])


def takes_a_query(function: _Command) -> _Command:
    """The options `--all`, `--failed-at`, `--code`, `--since`, `--node`, `--namespace`."""
    states = [State.REQUESTED.value, *(state.value for state in LAUNCH_STATES)]
    for option in (
        click.option("--namespace", default="", help="Only launches of this namespace."),
        click.option("--node", default="", help="Only launches of this node."),
        click.option("--since", metavar="AGO|TIME", help="Only launches that began since: 30m, 2h, 7d, or a time."),
        click.option(
            "--code",
            type=click.Choice([code.value for code in Code]),
            metavar="CODE",
            help="Only failures of this code.",
        ),
        click.option("--failed-at", type=click.Choice(states), help="Only failures after this state."),
        click.option("--all", "everything", is_flag=True, help="Every launch that the conditions admit."),
    ):
        function = option(function)
    return function


def query(failed_at: str | None, code: str | None, since: str | None, node: str, namespace: str) -> Query:
    """The options as a value. Raises Permanent(INPUT)."""
    return Query(
        failed_at=State(failed_at) if failed_at else None,
        code=code or "",
        since_ns=_since(since) if since else 0,
        node=node,
        namespace=namespace,
    )


def _since(text: str) -> int:
    if ago := _AGO.fullmatch(text):
        return time.time_ns() - int(ago[1]) * _SECONDS[ago[2]] * 10**9
    try:
        return parse_time(text)
    except Permanent as fault:
        raise Permanent(
            Code.INPUT, f"{text!r} is no time", expected="30s, 10m, 2h, 7d, or 2026-01-01T10:00:00Z", got=text[:100]
        ) from fault


def one_or_all(launches: tuple[str, ...], *, everything: bool) -> None:
    """Either launches are named, or all are meant. Raises click.UsageError."""
    if bool(launches) is everything:
        raise click.UsageError("name launches, or say --all")


async def every_source(histories: Histories) -> list[Source]:
    """Every history there is, read once. Raises Temporary(BUS_AWAY)."""
    found: dict[str, Source] = {}
    async with aclosing(histories.scan()) as messages:
        async for pod, message in messages:
            found.setdefault(pod, Source(pod, [], [])).messages.append(message)
    return list(found.values())


def began_ns(source: Source) -> int:
    """The time of the first fact, 0 without one."""
    return next((message.fact.at_ns for message in source.messages if isinstance(message, Recorded)), 0)
