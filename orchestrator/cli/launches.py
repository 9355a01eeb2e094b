"""`enclave-cc launches`: all of them, on one line each.

Zone: host. May import: `click`, `rich`, `orchestrator.{bus,cli,lifecycle,story}`, the standard library.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import click

from orchestrator.bus import Bus, Histories
from orchestrator.cli import documents, drawing
from orchestrator.cli.finding import Known, every_launch
from orchestrator.cli.subcommand import Subcommand, answers_json, ask, print_json, reads_the_bus
from orchestrator.launch import Launch
from orchestrator.lifecycle import State
from orchestrator.story import reached, title


@click.command(cls=Subcommand)
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only those in this state.")
@click.option("--node", help="Only those of this node.")
@answers_json
@reads_the_bus
def launches(config: Path | None, stack: str | None, *, state: str | None, node: str | None, as_json: bool) -> None:
    """List launches, the oldest first."""

    async def question(bus: Bus) -> list[Known]:
        return await every_launch(Histories(bus))

    known = [each for each in ask(config, stack, question) if _wanted(each.launch, state, node)]
    if as_json:
        print_json({"launches": [documents.summary(each) for each in known]})
        return
    table = drawing.table("pod", "name", "state", "reached", "age", "containers", "failure")
    now = time.time_ns()
    for each in known:
        launch = each.launch
        table.add_row(
            launch.pod[: drawing.SHORT],
            drawing.text(title(launch) if launch.requested else "-"),
            drawing.state("broken" if each.broken else launch.state),
            reached(launch).value,
            drawing.age(each.began_ns, now),
            _containers(launch),
            _failure(each),
        )
    drawing.show(table)


def _wanted(launch: Launch, state: str | None, node: str | None) -> bool:
    of_node = node is None or (launch.requested is not None and launch.requested.node == node)
    return of_node and (state is None or launch.state.value == state)


def _containers(launch: Launch) -> str:
    counted = Counter(container.progress.state.value for container in launch.containers.values())
    return ", ".join(f"{count} {state}" for state, count in counted.items()) or "-"


def _failure(known: Known) -> str:
    if known.broken is not None:
        return known.broken.code.value
    failure = known.launch.failure
    return failure.diagnosis.code.value if failure else "-"
