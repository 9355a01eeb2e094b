"""`enclave-cc fork LAUNCH`: a new launch beside it, asked for what it was asked for, with every step made anew.

Zone: host. May import: `click`, `orchestrator`, the standard library.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Final

import click

from orchestrator.cli import drawing
from orchestrator.cli.finding import find
from orchestrator.cli.operating import gives_orders, operate
from orchestrator.cli.subcommand import Subcommand, answers_json, print_json, takes_a_launch
from orchestrator.events import Foreign, ForkedFrom, PodRequested, Recorded, StopRequested
from orchestrator.faults import Code, Permanent, Temporary
from orchestrator.forking import OVERRIDES, Plan, plan
from orchestrator.launch import Launch
from orchestrator.orders import Operator
from orchestrator.replay.at import Moment, until

FOLLOWED_WITHIN: Final = 15.0
"""Seconds until an orchestrator has stated what the fork is asked for."""


@click.command(cls=Subcommand)
@takes_a_launch()
@click.option(
    "--at", metavar="N|TIME", help="As it was asked for up to fact N, a time, or so long after its first fact."
)
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help=f"Ask for something else: {OVERRIDES}.")
@click.option("--dry-run", is_flag=True, help="Say what would be asked for, and give no order.")
@answers_json
@gives_orders
def fork(
    launch: str,
    config: Path | None,
    stack: str | None,
    by: str,
    reason: str,
    *,
    at: str | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Launch again, beside LAUNCH, what it was asked for: with its own agent, keys and network (loopback only).

    LAUNCH must still be on its node. What it mounts from the node is read-only in the fork. Nobody but `enclave-cc
    stop` ends a fork that runs.
    """

    async def act(operator: Operator) -> tuple[str, Plan]:
        history = await operator.histories.read(await find(operator.histories, launch))
        last = _last(until(history, Moment.parse(at)) if at else history)
        order = ForkedFrom(
            last.fact.pod, last.index, last.digest, overrides, operator.reason, operator.by, operator.key.public
        )
        pod = secrets.token_hex(32)
        asked = plan(pod, order, history)
        if not dry_run:
            await operator.order(pod, order, allowed=_is_new)
            await _followed(operator, pod)
        return pod, asked

    pod, asked = operate(config, stack, by, reason, act)
    if as_json:
        made = not dry_run
        containers = [{"id": id_ if made else None, "image": c.image} for id_, c in asked.containers]
        print_json({"pod": pod if made else None, "name": asked.pod.name, "containers": containers})
        return
    lines = [f"{'would be asked for' if dry_run else pod}: {asked.pod.namespace}/{asked.pod.name} on {asked.pod.node}"]
    lines += [f"  {container.name or id_[:12]}: {container.image}" for id_, container in asked.containers]
    for line in lines:
        click.echo(drawing.printable(line))


def _last(history: list[Recorded | Foreign]) -> Recorded:
    facts = [message for message in history if isinstance(message, Recorded)]
    if facts:
        return facts[-1]
    raise Permanent(Code.REPLAY_FORK, "nothing was there at that moment", expected="at least one fact", got="none")


def _is_new(launch: Launch) -> bool:
    return launch.index == 0


async def _followed(operator: Operator, pod: str) -> None:
    """Wait until an orchestrator has stated what the fork is asked for. Raises Permanent(REPLAY_FORK) if it refuses."""
    try:
        async with asyncio.timeout(FOLLOWED_WITHIN):
            async for message in operator.histories.follow(pod):
                body = message.fact.body if isinstance(message, Recorded) else None
                if isinstance(body, PodRequested):
                    return
                if isinstance(body, StopRequested):
                    raise Permanent(
                        Code.REPLAY_FORK,
                        "the orchestrator did not follow the order",
                        expected="a fork",
                        got=body.reason,
                    )
    except TimeoutError as error:
        raise Temporary(
            Code.REPLAY_FORK,
            f"the order stands in the history of {pod}, and no orchestrator has followed it yet",
            expected=f"pod-requested within {FOLLOWED_WITHIN:g} s",
            got="none",
            advice="see whether an orchestrator runs (`enclave-cc status`); it will follow the order when it does",
        ) from error
