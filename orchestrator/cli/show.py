"""`enclave-cc show LAUNCH`: what became of one launch, what each step took, why it failed.

Zone: host. May import: `click`, `rich`, `orchestrator.{cli,fold,replay,story}`, the standard library.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli import documents, drawing
from orchestrator.cli.sources import source
from orchestrator.cli.subcommand import Subcommand, answers_json, print_json, reads_the_bus, takes_a_launch
from orchestrator.fold import fold
from orchestrator.replay.at import Moment, until
from orchestrator.story import Explained, LaunchStory, Outcome, Step, describe


@click.command(cls=Subcommand)
@takes_a_launch()
@click.option(
    "--at", metavar="N|TIME", help="As it was after fact N, at a time, or so long after its first fact (+2s)."
)
@answers_json
@reads_the_bus
def show(launch: str, config: Path | None, stack: str | None, *, at: str | None, as_json: bool) -> None:
    """Show one launch: its states and what each took, its containers, evidence, verdicts, and why it failed.

    LAUNCH is the beginning of a pod's id, namespace/name (the newest of that name), an exported file, or imported:ID.
    """
    found = source(launch, config, stack)
    messages = until(found.messages, Moment.parse(at)) if at else found.messages
    told = describe(fold(found.pod, messages), messages)
    if as_json:
        print_json({"launch": documents.story(told)})
    else:
        drawing.show(Group(*_page(told)))


def _page(told: LaunchStory) -> Iterator[RenderableType]:
    yield drawing.text(told.title, "bold")
    yield _pairs(
        ("pod", told.launch.pod),
        ("node", told.launch.requested.node if told.launch.requested else ""),
        ("state", told.verdict),
        ("began", drawing.moment(told.began_ns)),
        ("steps took", drawing.duration(told.working_ns)),
    )
    yield from _section("timeline", _timeline(told))
    for container in told.launch.containers.values():
        asked, ended = container.requested, container.progress.exit
        readers = container.delivered.output_key_ids if container.delivered else ()
        yield from _section(
            f"container {told.name_of(container.id)}",
            _pairs(
                ("id", container.id),
                ("image", asked.image),
                ("digest", container.decrypted.manifest_digest if container.decrypted else ""),
                ("state", container.progress.state.value),
                *(("host data", taken) for taken in (container.delivered.host_data if container.delivered else ())),
                ("output", f"sealed for {', '.join(readers)}" if readers else ""),
                ("exit code", str(ended.code) if ended else ""),
            ),
        )
    if told.evidence is not None:
        evidence = told.evidence
        yield from _section(
            "evidence",
            _pairs(
                ("measurement", evidence.measurement),
                ("TCB status", evidence.tcb_status + (", simulated" if evidence.simulated else "")),
                ("quote", f"{evidence.quote_bytes} bytes, sha256 {evidence.quote_sha256}"),
                ("event key", evidence.event_public_key),
                ("key broker", evidence.kbs),
            ),
        )
    if told.verdicts:
        yield from _section("verdicts", _verdicts(told))
    for explained in told.failures:
        yield from _section(f"failure of {told.name_of(explained.container)}", _failure(explained))
    if told.orders:
        yield from _section("orders", _orders(told))
    if told.launch.ignored:
        yield from _section("refused or passed over", _ignored(told))


def _section(heading: str, body: RenderableType) -> Iterator[RenderableType]:
    yield Text()
    yield drawing.text(heading, "bold")
    yield body


def _grid() -> Table:
    """Columns without headings; the first is empty and indents the others by two."""
    return Table.grid(padding=(0, 2))


def _pairs(*pairs: tuple[str, str]) -> Table:
    """Names and values; those without a value are left out."""
    grid = _grid()
    for name, value in pairs:
        if value:
            grid.add_row("", Text(name, "dim"), drawing.text(value))
    return grid


def _timeline(told: LaunchStory) -> Table:
    grid = _grid()
    longest = max((step.nanoseconds for step in told.steps), default=0)
    for step in told.steps:
        whose = told.name_of(step.container) if step.container else ""
        grid.add_row(
            "",
            drawing.text(whose, "dim"),
            _target(step),
            _took(step),
            drawing.bar(step.nanoseconds, longest),
            _tries(step),
        )
    return grid


def _target(step: Step) -> Text:
    style = {Outcome.DONE: "green", Outcome.FAILED: "red", Outcome.AWAITED: "cyan"}.get(step.outcome, "dim")
    return Text(step.transition.target.value, style)


def _took(step: Step) -> Text:
    if step.outcome is Outcome.DONE:
        return Text(drawing.duration(step.nanoseconds), justify="right")
    return Text(step.outcome.value, "red" if step.outcome is Outcome.FAILED else "dim", justify="right")


def _tries(step: Step) -> Text:
    codes = ", ".join(attempt.diagnosis.code.value for attempt in step.failed if attempt.counted)
    if step.attempts > 1 or codes:
        return Text(f"attempt {step.attempts} of {step.transition.attempts}; {codes}", "yellow")
    return Text()


def _verdicts(told: LaunchStory) -> Table:
    grid = _grid()
    for verdict in told.verdicts:
        grid.add_row(
            "", Text(verdict.about, "dim"), drawing.text(verdict.verdict), drawing.text(f"by {verdict.policy}", "dim")
        )
    return grid


def _failure(explained: Explained) -> Table:
    """The enforcing code's own words, then what usually leads there; an arrow where the launch itself shows it."""
    grid = _grid()
    grid.add_row("", drawing.text(explained.failure.diagnosis.text(), "red"))
    if explained.next_action != explained.failure.diagnosis.advice:
        grid.add_row("", drawing.text(explained.next_action))
    for cause in explained.causes:
        mark = "→" if cause.evident else "-"
        grid.add_row("", drawing.text(f"{mark} {cause.what} (see: {cause.tell})"))
    return grid


def _orders(told: LaunchStory) -> Table:
    grid = _grid()
    for order in told.orders:
        grid.add_row(
            "",
            Text(str(order.index), "dim"),
            drawing.text(told.name_of(order.container), "dim"),
            drawing.text(order.what),
            drawing.text(f"by {order.actor}", "dim"),
            drawing.text(order.reason),
        )
    return grid


def _ignored(told: LaunchStory) -> Table:
    grid = _grid()
    for entry in told.launch.ignored:
        grid.add_row("", Text(str(entry.index or "-"), "dim"), drawing.text(entry.kind), drawing.text(entry.why))
    return grid
