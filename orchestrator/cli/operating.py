"""What the subcommands share that give orders: whose key signs, why, and by whom.

Zone: host. May import: `click`, `orchestrator.{bus,cli,orders}`, the standard library.

What an order is, `orchestrator.orders` says.
"""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from orchestrator.bus import Histories, connect
from orchestrator.bus.operator_key import OperatorKey
from orchestrator.bus.settings import BusSettings
from orchestrator.cli.subcommand import PATIENCE, say_nothing, settings_path
from orchestrator.orders import Operator

SETTINGS: Final = "operator.toml"
"""Beside the reader's client.toml."""

_Answer = TypeVar("_Answer")
_Command = TypeVar("_Command", bound=Callable[..., Any])


def gives_orders(function: _Command) -> _Command:
    """The options of an order: `reason`, `by`, `config` and `stack` among the arguments."""
    for option in (
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            help=f"An operator's settings: a TOML file. Default: {SETTINGS} beside the reader's.",
        ),
        click.option("--name", "stack", metavar="STACK", help="The stack of that name on this machine."),
        click.option("--by", metavar="NAME", default="", help="Your name, for the history. Default: your login."),
        click.option("--reason", required=True, callback=_reason, help="Why, for whoever reads the history later."),
    ):
        function = option(function)
    return function


def _reason(_: click.Context, __: click.Parameter, given: str) -> str:
    if not given.strip():
        raise click.BadParameter("a reason that says nothing is none")
    return given.strip()


def operate(
    config: Path | None,
    stack: str | None,
    by: str,
    reason: str,
    act: Callable[[Operator], Coroutine[Any, Any, _Answer]],
) -> _Answer:
    """Connect as an operator, act, end the connection. Raises whatever Fault `act` raises, Permanent(NOT_ALLOWED)."""
    say_nothing()

    async def run() -> _Answer:
        settings = BusSettings.load(config or settings_path(None, stack).with_name(SETTINGS))
        key = OperatorKey.load(Path(settings.credentials))
        async with await connect(settings.enter(), "enclave-cc", PATIENCE) as bus:
            return await act(Operator(Histories(bus), key, by or _login(), reason))

    return asyncio.run(run())


def _login() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()
