"""What the subcommands share that give orders: whose key signs, why, and by whom.

Zone: host. May import: `click`, `orchestrator.{bus,cli,events,faults,launch,lifecycle}`, the standard library.

An order is a fact of the launch's history, signed by the operator's key. Who may append one is the bus's permission
list; whose orders count is said by the launch itself, which names its operators in its first fact.
"""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from orchestrator.bus import Histories, connect
from orchestrator.bus.operator_key import OperatorKey
from orchestrator.bus.settings import BusSettings
from orchestrator.cli.subcommand import PATIENCE, say_nothing, settings_path
from orchestrator.events import Body, Fact
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch
from orchestrator.lifecycle import Zone

SETTINGS: Final = "operator.toml"
"""Beside the reader's client.toml."""

ORDER_PATIENCE: Final = 30.0
"""Seconds that an order may take to be stored: longer than a question, since a lost answer has to be settled."""

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


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who gives orders, connected to the bus. `by` is a name as claimed; the key is what counts."""

    histories: Histories
    key: OperatorKey
    by: str
    reason: str

    def may_order(self, launch: Launch) -> None:
        """Raises Permanent(NOT_ALLOWED) unless the launch names this key as an operator's."""
        operators = launch.requested.operators if launch.requested else ()
        if self.key.public not in operators:
            raise Permanent(
                Code.NOT_ALLOWED,
                "this launch takes no orders from the key of these credentials",
                expected=", ".join(key.hex() for key in operators)
                or "an operator whom the launch names: it names none",
                got=self.key.public.hex(),
                advice="use the operator's credentials of its node; [orders] in node.toml names them for new launches",
            )

    async def order(
        self, pod: str, body: Body, container: str = "", *, allowed: Callable[[Launch], bool]
    ) -> Launch | None:
        """Append, signed; None where it is not `allowed` any more. Raises what `Histories.append` raises."""
        fact = Fact(pod, body, Zone.HOST, f"operator/{self.by}", container)
        return await self.histories.append(fact, allowed=allowed, sign=self.key.sign, patience=ORDER_PATIENCE)


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
