"""What every subcommand shares: where the bus is, how a fault ends it, how a launch's name is completed.

Zone: host. May import: `click`, `structlog`, `orchestrator.{bus,faults,cli}`, the standard library.

Exit codes, the same in every subcommand:

    0   done                            3   there is no such launch, file or settings
    1   a fault; its code is printed    4   verification failed
    2   used wrongly, or ambiguous      75  a fault that may be gone when it is tried again
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import structlog
from click.shell_completion import CompletionItem

from orchestrator.bus import Bus, Histories, connect
from orchestrator.bus.settings import BusSettings
from orchestrator.cli.finding import every_launch
from orchestrator.faults import Code, Fault, Temporary
from orchestrator.story import title

ENVIRONMENT: Final = "ENCLAVE_CC_CONFIG"
STACKS: Final = Path("/var/lib/enclave-cc/stacks")
MACHINE: Final = Path("/etc/enclave-cc/client.toml")
PATIENCE: Final = 5.0
"""Seconds that a person waits for a bus that does not answer."""

COMPLETE_WITHIN: Final = 1.5
"""Seconds that a shell waits for suggestions."""

EPILOG: Final = "Exit codes: 0 done, 1 a fault, 2 used wrongly, 3 not found, 4 verification failed, 75 try again later."
NOT_FOUND: Final = 3
VERIFICATION_FAILED: Final = 4
_USED_WRONGLY: Final = 2
_TRY_AGAIN: Final = 75
_Answer = TypeVar("_Answer")


class Subcommand(click.Command):
    """A command whose faults are printed with their diagnosis and end it with the exit code of their kind."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"epilog": EPILOG, **options})

    def invoke(self, ctx: click.Context) -> Any:
        """Run; see the module's head for what it ends with."""
        try:
            return super().invoke(ctx)
        except Fault as fault:
            click.echo(fault.diagnostics(), err=True)
            ctx.exit(exit_code(fault))


def exit_code(fault: Fault) -> int:
    """What a process ends with after this fault."""
    if isinstance(fault, Temporary):
        return _TRY_AGAIN
    return {Code.NOT_FOUND: NOT_FOUND, Code.INPUT: _USED_WRONGLY}.get(fault.code, 1)


_Command = TypeVar("_Command", bound=Callable[..., Any])


def reads_the_bus(function: _Command) -> _Command:
    """The options by which a subcommand finds the bus: `config` and `stack` among its arguments."""
    for option in (
        click.option(
            "--name", "stack", metavar="STACK", help="The stack of that name on this machine (see `enclave-cc up`)."
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            help=f"Where the bus is: a TOML file. Default: ${ENVIRONMENT}, {MACHINE}, the default stack's.",
        ),
    ):
        function = option(function)
    return function


def answers_json(function: _Command) -> _Command:
    """The option `--json`: `as_json` among the arguments."""
    return click.option("--json", "as_json", is_flag=True, help="JSON instead of text; stable, version 1.")(function)


def takes_a_launch(*, required: bool = True) -> Callable[[_Command], _Command]:
    """The argument LAUNCH: `launch` among the arguments."""
    return click.argument("launch", required=required, shell_complete=_complete, metavar="LAUNCH")


def takes_launches(function: _Command) -> _Command:
    """Any number of them: `launches` among the arguments."""
    return click.argument("launches", nargs=-1, shell_complete=_complete, metavar="[LAUNCH]...")(function)


def settings_path(config: Path | None, stack: str | None) -> Path:
    """Which file says where the bus is; see `reads_the_bus`."""
    if config is not None:
        return config
    if stack is not None:
        return STACKS / stack / "client.toml"
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    return MACHINE if MACHINE.exists() else STACKS / "default" / "client.toml"


def ask(config: Path | None, stack: str | None, question: Callable[[Bus], Coroutine[Any, Any, _Answer]]) -> _Answer:
    """Connect, ask, end the connection. Raises whatever Fault the question raises."""
    say_nothing()

    async def run() -> _Answer:
        settings = BusSettings.load(settings_path(config, stack))
        async with await connect(settings.enter(), "enclave-cc", PATIENCE) as bus:
            return await question(bus)

    return asyncio.run(run())


def say_nothing() -> None:
    """What a server would log is no part of an answer: a fault says what a person needs to know."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def print_json(document: dict[str, Any]) -> None:
    """One document, version 1."""
    click.echo(json.dumps({"version": 1, **document}, indent=1))


def print_json_line(document: dict[str, Any]) -> None:
    """The same on one line, seen at once."""
    click.echo(json.dumps({"version": 1, **document}))


def _complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Pod ids with their names; names where a slash is typed. Nothing when the bus does not answer in time."""

    async def suggestions() -> list[CompletionItem]:
        settings = BusSettings.load(settings_path(ctx.params.get("config"), ctx.params.get("stack")))
        async with asyncio.timeout(COMPLETE_WITHIN), await connect(settings.enter(), "completion", 1) as bus:
            known = await every_launch(Histories(bus))
        pods = {each.launch.pod: title(each.launch) for each in known}
        meant = {name: pod for pod, name in pods.items()} if "/" in incomplete else pods
        return [CompletionItem(value, help=other) for value, other in meant.items() if value.startswith(incomplete)]

    say_nothing()
    try:
        return asyncio.run(suggestions())
    except (Fault, TimeoutError):
        return []
