"""`enclave-cc describe LAUNCH`: what went wrong, what usually leads there, what to do next.

Zone: host. May import: `click`, `rich`, `orchestrator`, the standard library.

For whoever is woken by it: the verdict first, the failing check in its own words, one next action. `describe E-KEY-002`
says what a code means; `describe --codes` says it of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from orchestrator.cli import documents, drawing
from orchestrator.cli.sources import source
from orchestrator.cli.subcommand import Subcommand, answers_json, print_json, reads_the_bus, takes_a_launch
from orchestrator.diagnosis import REMEDIES
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code, Diagnosis, Permanent
from orchestrator.fold import apply
from orchestrator.launch import Failure, Launch, new
from orchestrator.lifecycle import BY_NAME, HOLD, State
from orchestrator.replay.at import Moment, until
from orchestrator.story import Cause, Explained, LaunchStory, Signer
from orchestrator.story import describe as tell
from orchestrator.story.causes import likely_causes


@click.command(cls=Subcommand)
@takes_a_launch(required=False)
@click.option(
    "--at", metavar="N|TIME", help="As it was after fact N, at a time, or so long after its first fact (+2s)."
)
@click.option("--codes", is_flag=True, help="What every fault code means and what to do, as a Markdown table.")
@answers_json
@reads_the_bus
def describe(
    launch: str | None, config: Path | None, stack: str | None, *, at: str | None, codes: bool, as_json: bool
) -> None:
    """Say why a launch failed: the verdict, the failing check with what it expected and got, and what to do next.

    LAUNCH is the beginning of a pod's id, namespace/name, an exported file, or imported:ID; or a fault's code.
    """
    if codes:
        click.echo(code_table())
        return
    if launch is None:
        raise click.UsageError("name a launch or a fault's code")
    if launch in Code.__members__.values():
        _print_code(Code(launch), as_json=as_json)
        return
    found = source(launch, config, stack)
    told, broken = telling(found.pod, until(found.messages, Moment.parse(at)) if at else found.messages)
    if as_json:
        print_json({"launch": documents.story(told), "broken": _broken(broken)})
        return
    for line in lines(told, broken):
        click.echo(drawing.printable(line))


def telling(pod: str, messages: Sequence[Recorded | Foreign]) -> tuple[LaunchStory, Diagnosis | None]:
    """The story as far as the history can be believed, and why not further."""
    launch, broken, believed = new(pod), None, list(messages)
    for number, message in enumerate(messages):
        try:
            launch = apply(launch, message)
        except Permanent as fault:
            broken, believed = fault.diagnosis, believed[:number]
            break
    return tell(launch, believed), broken


def lines(told: LaunchStory, broken: Diagnosis | None = None) -> Iterator[str]:
    """The page, line by line."""
    yield f"{told.title}  pod {told.launch.pod}"
    yield f"verdict   {told.verdict}"
    yield f"reached   {told.reached}"
    for order in told.orders:
        whose = f" of container {told.name_of(order.container)}" if order.container else ""
        yield f"order     {order.what}{whose}, by {order.actor} in fact {order.index}: {order.reason}"
    for step in told.waiting:
        if step.transition is HOLD:
            yield f"held      until {documents.instant(step.deadline_ns)}: `enclave-cc resume` lets it go on"
    for explained in told.failures:
        yield ""
        yield from _failure(told, explained)
    if broken is not None:
        yield ""
        yield "its history cannot be believed any further"
        yield from _diagnosis(broken, broken.advice or REMEDIES[broken.code].action, _causes_of(broken.code))
    elif told.stopped is not None:
        yield ""
        yield from _failure(told, told.stopped)
    elif not told.failures:
        yield "nothing of it has failed"


def _failure(told: LaunchStory, explained: Explained) -> Iterator[str]:
    failure = explained.failure
    row = BY_NAME.get(failure.transition)
    whose = f"container {told.name_of(explained.container)}" if explained.container else "the pod"
    if row is not None:
        attempts = f"attempt {failure.attempt} of {explained.attempts_allowed}"
        yield f"failed    {failure.transition} of {whose}, {row.zone} zone, {attempts}; it had reached {failure.state}"
    else:
        forged = failure.diagnosis.code is Code.FACT_FORGED
        stopped = failure.diagnosis.code is Code.STOPPED
        where = "in the check of its own history" if forged else "in no step of its own"
        yield f"{'stopped' if stopped else 'failed':9} {whose}, {where}; it had reached {failure.state}"
    yield from _diagnosis(failure.diagnosis, explained.next_action, explained.causes)
    fact = next((fact for fact in told.facts if fact.index == failure.index), None)
    if fact is not None:
        word = "signed by the launch's event key" if fact.signer is Signer.EVENT_KEY else "the host's word"
        yield f"told by   {fact.actor or '?'} in fact {fact.index}, {documents.instant(fact.at_ns) or '?'}; {word}"


def _diagnosis(diagnosis: Diagnosis, action: str, causes: Sequence[Cause]) -> Iterator[str]:
    yield f"code      {diagnosis.code}: {REMEDIES[diagnosis.code].meaning}"
    yield f"check     {diagnosis.message}"
    yield f"expected  {diagnosis.expected or '-'}"
    yield f"got       {diagnosis.got or '-'}"
    yield f"next      {action}"
    if diagnosis.advice and diagnosis.advice == action:
        yield f"          in general: {REMEDIES[diagnosis.code].action}"
    elif diagnosis.advice:
        yield f"          the check asks: {diagnosis.advice}"
    for number, cause in enumerate(causes, 1):
        evident = ", as this launch shows" if cause.evident else ""
        yield f"cause {number:<3} {cause.what}{evident}; to tell: {cause.tell}"


def _causes_of(code: Code) -> tuple[Cause, ...]:
    """The causes of a code that no launch bears."""
    return likely_causes(Launch(""), Failure(State.REQUESTED, "", 0, Diagnosis(code, ""), 0))


def _broken(diagnosis: Diagnosis | None) -> dict[str, Any] | None:
    return documents.diagnosis(diagnosis) if diagnosis else None


# --- codes ------------------------------------------------------------------------------------------------------------


def _print_code(code: Code, *, as_json: bool) -> None:
    remedy, causes = REMEDIES[code], _causes_of(code)
    if as_json:
        shown = [{"what": cause.what, "tell": cause.tell} for cause in causes]
        print_json({"code": code.value, "meaning": remedy.meaning, "next": remedy.action, "causes": shown})
        return
    click.echo(f"code      {code}: {remedy.meaning}")
    click.echo(f"next      {remedy.action}")
    for number, cause in enumerate(causes, 1):
        click.echo(f"cause {number:<3} {cause.what}; to tell: {cause.tell}")


def code_table() -> str:
    """docs/operations/faults.md's table."""
    rows = ["| Code | What it means | Likely causes, the most frequent first | What to do next |", "|---|---|---|---|"]
    for code in Code:
        causes = "; ".join(cause.what for cause in _causes_of(code))
        rows.append(f"| {code} | {REMEDIES[code].meaning} | {causes} | {REMEDIES[code].action} |")
    return "\n".join(rows)
