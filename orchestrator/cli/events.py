"""`enclave-cc events LAUNCH`: the history itself, message by message.

Zone: host. May import: `click`, `rich`, `orchestrator.{bus,cli,events,fold,story}`, the standard library.
"""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from orchestrator.bus import Bus, Histories
from orchestrator.cli import documents, drawing
from orchestrator.cli.finding import find
from orchestrator.cli.subcommand import Subcommand, answers_json, ask, print_json, reads_the_bus, takes_a_launch
from orchestrator.events import Foreign, Recorded
from orchestrator.fold import fold
from orchestrator.story import LaunchStory, Signer, Told, describe

_STYLES = {Signer.EVENT_KEY: "green", Signer.OPERATOR: "green", Signer.UNSIGNED: "dim", Signer.FORGED: "red"}


@click.command(cls=Subcommand)
@takes_a_launch()
@answers_json
@reads_the_bus
def events(launch: str, config: Path | None, stack: str | None, *, as_json: bool) -> None:
    """List every message of a launch's history: who said it and when, on whose word it stands, what it says.

    A signature is ok (under the launch's event key; of an order, under an operator's whom the launch names), none (the
    word of the host, which is not trusted) or bad.
    """

    async def question(bus: Bus) -> tuple[LaunchStory, list[Recorded | Foreign]]:
        histories = Histories(bus)
        pod = await find(histories, launch)
        messages = await histories.read(pod)
        return describe(fold(pod, messages), messages), messages

    told, messages = ask(config, stack, question)
    if as_json:
        print_json({"pod": told.launch.pod, "events": list(documents.history(told, messages))})
        return
    table = drawing.table("#", "time", "+", "zone", "by", "what", "container", "try", "signature", "says")
    before_ns = 0
    for entry in told.facts:
        table.add_row(
            str(entry.index or "-"),
            drawing.moment(entry.at_ns),
            drawing.duration(entry.at_ns - before_ns) if entry.at_ns > before_ns > 0 else "",
            entry.zone.value if entry.zone else "-",
            drawing.text(entry.actor),
            drawing.text(entry.kind),
            drawing.text(told.name_of(entry.container) if entry.container else ""),
            str(entry.attempt or ""),
            Text(documents.SIGNATURE[entry.signer], _STYLES[entry.signer]),
            _says(entry),
        )
        before_ns = entry.at_ns or before_ns
    drawing.show(table)


def _says(entry: Told) -> Text:
    said = drawing.text("; ".join(f"{name} {value}" for name, value in entry.details))
    return Text.assemble(drawing.text(f"[{entry.effect}] ", "yellow"), said) if entry.effect else said
