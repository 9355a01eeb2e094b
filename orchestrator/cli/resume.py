"""`enclave-cc resume`: what failed, and is held, goes on.

Zone: host. May import: `click`, `orchestrator`, the standard library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from orchestrator.cli import drawing, fleet, resuming
from orchestrator.cli.finding import every_launch, find
from orchestrator.cli.operating import gives_orders, operate
from orchestrator.cli.resuming import Answer
from orchestrator.cli.subcommand import Subcommand, answers_json, print_json, takes_launches
from orchestrator.faults import Code
from orchestrator.launch import Launch
from orchestrator.lifecycle import LAUNCH_STATES, State
from orchestrator.orders import Operator
from orchestrator.replay.query import Query

STATES: Final = [State.REQUESTED.value, *(state.value for state in LAUNCH_STATES[:-1])]
"""From which a launch may be asked to begin again."""

_THE_BUS: Final = (Code.BUS_AWAY, Code.BUS_FULL)
"""Faults that the next order would meet too."""


@click.command(cls=Subcommand)
@takes_launches
@click.option("--container", default="", help="Only this container of the pod: its name, or the beginning of its id.")
@click.option("--from", "start", type=click.Choice(STATES), help="Begin again from this state, where that can be done.")
@fleet.takes_a_query
@click.option("--dry-run", is_flag=True, help="Say what would go on, and give no order.")
@answers_json
@gives_orders
def resume(
    launches: tuple[str, ...],
    config: Path | None,
    stack: str | None,
    by: str,
    reason: str,
    *,
    container: str,
    start: str | None,
    everything: bool,
    dry_run: bool,
    as_json: bool,
    **conditions: Any,
) -> None:
    """Issue the failed step again, of launches that are held.

    A pod is held where its annotation or its node says so. A container begins anew; nothing that must be fresh is used
    twice. Each order is a fact of the launch, with who and why. One that cannot go on keeps none of the others back;
    this ends with its fault.
    """
    fleet.one_or_all(launches, everything=everything)
    query = fleet.query(**conditions)

    async def act(operator: Operator) -> list[Answer]:
        meant = await (_held(operator, container, query) if everything else _named(operator, launches, container))
        answers: list[Answer] = []
        for launch, part in meant:
            answers.append(await resuming.resume(operator, launch, part, start, dry_run=dry_run))
            if (fault := answers[-1].fault) is not None and fault.code in _THE_BUS:
                break
        return answers

    answers = operate(config, stack, by, reason, act)
    if as_json:
        print_json({"resumed": [_document(answer, dry_run=dry_run) for answer in answers]})
    else:
        _print(answers, dry_run=dry_run)
    faults = [answer.fault for answer in answers if answer.fault is not None]
    if faults:
        raise next((fault for fault in faults if fault.code in _THE_BUS), faults[0])


async def _named(operator: Operator, launches: tuple[str, ...], container: str) -> list[tuple[Launch, str]]:
    found = [await operator.histories.launch(await find(operator.histories, launch)) for launch in launches]
    return [(launch, part) for launch in found for part in resuming.parts_named(launch, container)]


async def _held(operator: Operator, container: str, query: Query) -> list[tuple[Launch, str]]:
    known = await every_launch(operator.histories)
    found = [one.launch for one in known if one.broken is None and query.admits(one.launch, one.began_ns)]
    return [(launch, part) for launch in found for part in resuming.parts_held(launch, container, query)]


def _print(answers: list[Answer], *, dry_run: bool) -> None:
    for answer in answers:
        whose = f" container {answer.container[: drawing.SHORT]}" if answer.container else ""
        does = "would go on" if dry_run else "goes on"
        told = f"{does} with {answer.goes_on_with}" if answer.fault is None else str(answer.fault)
        click.echo(drawing.printable(f"{answer.title}  pod {answer.pod[: drawing.SHORT]}{whose}: {told}"))
    if not answers:
        click.echo("nothing that failed is held")


def _document(answer: Answer, *, dry_run: bool) -> dict[str, Any]:
    fault = answer.fault
    return {
        "pod": answer.pod,
        "title": answer.title,
        "container": answer.container,
        "goes_on_with": answer.goes_on_with or None,
        "ordered": not dry_run and fault is None,
        "fault": {"code": fault.code.value, "message": fault.diagnosis.message} if fault else None,
    }
