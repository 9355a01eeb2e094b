"""`enclave-cc follow [LAUNCH]`: what happens, as it happens.

Zone: host. May import: `click`, `rich`, `orchestrator.{bus,cli,events,fold,launch,story}`, the standard library.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from orchestrator.bus import Bus, Histories
from orchestrator.bus.tail import tail
from orchestrator.cli import documents, drawing
from orchestrator.cli.finding import find
from orchestrator.cli.subcommand import (
    Subcommand,
    answers_json,
    ask,
    print_json_line,
    reads_the_bus,
    takes_a_launch,
)
from orchestrator.events import Foreign, Recorded, StepFailed
from orchestrator.faults import Code, Permanent
from orchestrator.fold import apply
from orchestrator.launch import Launch, Passed, new
from orchestrator.lifecycle import State
from orchestrator.story import Told, title
from orchestrator.story.testimony import testimony

INTERRUPTED = 130


@click.command(cls=Subcommand)
@takes_a_launch(required=False)
@click.option("--until-settled", is_flag=True, help="End when LAUNCH has booted (0), has failed or is gone (1).")
@answers_json
@reads_the_bus
def follow(launch: str | None, config: Path | None, stack: str | None, *, until_settled: bool, as_json: bool) -> None:
    """Follow one launch from its beginning, or all launches from now on: each message and the states it leads to.

    With --json, one document a line. Ends with Ctrl-C, or see --until-settled.
    """
    if until_settled and launch is None:
        raise click.UsageError("--until-settled needs a LAUNCH")
    tell = _tell_json if as_json else _Screen(drawing.console())

    async def question(bus: Bus) -> Launch | None:
        async with aclosing(_one(bus, launch) if launch is not None else _all(bus)) as news:
            async for each in news:
                tell(each)
                if until_settled and settled(each.after):
                    return each.after
        return None

    try:
        ended = ask(config, stack, question)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if ended is not None and not booted(ended):
        sys.exit(1)


class News:
    """A message, and the launch before and after it."""

    __slots__ = ("after", "before", "message")

    def __init__(self, before: Launch, message: Recorded | Foreign, after: Launch) -> None:
        self.before = before
        self.message = message
        self.after = after

    @property
    def told(self) -> Told:
        """The message as people read it."""
        return next(testimony(self.after, [self.message]))

    def reached(self) -> Iterator[tuple[str, Passed]]:
        """The states that this message led to, each with its container (empty: the pod)."""
        for entry in self.after.progress.passed[len(self.before.progress.passed) :]:
            yield "", entry
        for id_, container in self.after.containers.items():
            known = self.before.containers.get(id_)
            for entry in container.progress.passed[len(known.progress.passed) if known else 0 :]:
                yield id_, entry


def booted(launch: Launch) -> bool:
    """Whether every container that is to run has booted, and there is one."""
    live = [c.progress for c in launch.containers.values() if c.progress.live]
    return bool(live) and launch.failure is None and all(p.state is State.APP_BOOTED for p in live)


def settled(launch: Launch) -> bool:
    """Whether a launch comes no further: it has booted, has failed, or is gone."""
    ended = any(c.progress.state in (State.EXITED, State.FAILED) for c in launch.containers.values())
    return booted(launch) or launch.failure is not None or launch.state is State.GONE or (ended and not _live(launch))


def _live(launch: Launch) -> bool:
    return any(c.progress.live for c in launch.containers.values())


async def _one(bus: Bus, asked: str) -> AsyncGenerator[News, None]:
    histories = Histories(bus)
    pod = await find(histories, asked)
    launch = new(pod)
    async for message in histories.follow(pod):
        before, launch = launch, apply(launch, message)
        yield News(before, message, launch)


async def _all(bus: Bus) -> AsyncGenerator[News, None]:
    """From now on; what came before is folded and not told. A history that breaks is told once and left alone."""
    launches: dict[str, Launch] = {}
    broken: set[str] = set()
    begun = False
    async for batch in tail(bus):
        for pod, message in batch:
            if pod in broken:
                continue
            before = launches.get(pod) or new(pod)
            try:
                launches[pod] = after = apply(before, message)
            except Permanent as fault:
                broken.add(pod)
                click.echo(fault.diagnostics(), err=True)
                continue
            if begun:
                yield News(before, message, after)
        begun = begun or not batch


def _tell_json(news: News) -> None:
    after, failure = news.after, news.after.failure
    document: dict[str, Any] = {
        "pod": after.pod,
        "title": title(after),
        "state": after.state.value,
        "reached": [documents.passed(container, entry) for container, entry in news.reached()],
        "failure": documents.diagnosis(failure.diagnosis) if failure and not news.before.failure else None,
        "event": documents.event(news.told, news.message, 0),
    }
    print_json_line(document)


class _Screen:
    """One line a message; the states it led to stand behind it, a failure below it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, news: News) -> None:
        after, told = news.after, news.told
        at = drawing.moment(told.at_ns).partition(" ")[2][:12]
        container = after.containers.get(told.container)
        whose = (container.requested.name if container else "") or told.container[: drawing.SHORT]
        line = Text.assemble(
            (f"{at:<13}", "dim"),
            drawing.text(f"{title(after) if after.requested else after.pod[: drawing.SHORT]}  "),
            (drawing.printable(f"{whose}  "), "dim") if whose else "",
            drawing.text(told.kind, "yellow" if told.effect else ""),
        )
        for _, entry in news.reached():
            line.append(f"  → {entry.state.value}", "green").append(f" {drawing.duration(entry.nanoseconds)}", "dim")
        if isinstance(news.message, Recorded) and isinstance(body := news.message.fact.body, StepFailed):
            line.append(drawing.printable(f"  {body.transition}, attempt {told.attempt}: {body.code}"), "red")
        if told.effect:
            line.append(f"  ({drawing.printable(told.effect)})", "yellow")
        self._console.print(line)
        if (failure := after.failure) and not news.before.failure:
            self._console.print(drawing.text(failure.diagnosis.text(), "red"))
            if failure.diagnosis.code is Code.FACT_FORGED:
                self._console.print("  see `enclave-cc verify`")
