"""`enclave-cc stop LAUNCH`: remove everything that was made for it.

Zone: host. May import: `click`, `orchestrator`, the standard library.
"""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator import orders
from orchestrator.cli import drawing
from orchestrator.cli.finding import find
from orchestrator.cli.operating import gives_orders, operate
from orchestrator.cli.subcommand import Subcommand, answers_json, print_json, takes_a_launch
from orchestrator.launch import Launch
from orchestrator.orders import Operator
from orchestrator.story import title


@click.command(cls=Subcommand)
@takes_a_launch()
@answers_json
@gives_orders
def stop(launch: str, config: Path | None, stack: str | None, by: str, reason: str, *, as_json: bool) -> None:
    """Stop a launch that nobody else ends: a fork, or one that is held and not worth waiting for.

    A pod that Kubernetes wants is created again by it. One that is being stopped, or is gone, is left alone.
    """

    async def act(operator: Operator) -> tuple[Launch, bool]:
        pod = await find(operator.histories, launch)
        told = await orders.stop(operator, pod)
        return told or await operator.histories.launch(pod), told is not None

    found, ordered = operate(config, stack, by, reason, act)
    if as_json:
        state = found.progress.state.value
        print_json({"pod": found.pod, "title": title(found), "state": state, "ordered": ordered})
        return
    told = "is being stopped" if ordered else f"is {found.progress.state} already"
    click.echo(drawing.printable(f"{title(found)}  pod {found.pod[: drawing.SHORT]} {told}"))
