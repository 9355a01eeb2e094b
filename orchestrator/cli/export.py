"""`enclave-cc export LAUNCH`: its history as one file, for another machine, another day, or somebody else's eyes.

Zone: host. May import: `click`, `orchestrator`, the standard library.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from orchestrator.audit.bundle import Bundle
from orchestrator.audit.entry import rfc3339
from orchestrator.cli.describe import telling
from orchestrator.cli.sources import SUFFIX, source
from orchestrator.cli.subcommand import Subcommand, reads_the_bus, takes_a_launch
from orchestrator.replay import bundle
from orchestrator.replay.at import Moment, until
from orchestrator.replay.redaction import NAMES, redact

NAMES_PRESET = "names"
_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(name="export", cls=Subcommand)
@takes_a_launch()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), help="- is standard output."
)
@click.option("--at", metavar="N|TIME", help="Only what was there after fact N, at a time, or so long after the first.")
@click.option("--proofs", type=_file, help="A bundle that `enclave-cc audit prove` wrote: its proofs go along.")
@click.option(
    "--redact",
    multiple=True,
    metavar="KIND",
    help=f"Take out the contents of facts of this kind; `{NAMES_PRESET}`: of all that name nodes, images or people.",
)
@reads_the_bus
def export(
    launch: str,
    config: Path | None,
    stack: str | None,
    *,
    output: Path | None,
    at: str | None,
    proofs: Path | None,
    redact: tuple[str, ...],
) -> None:
    """Write a launch's history to one file: every fact, what was decided at it, versions, and proofs.

    No key, token or plaintext is in any fact. Redacted facts keep their digests, so the chain and the proofs hold.
    """
    found = source(launch, config, stack)
    messages = until(found.messages, Moment.parse(at)) if at else found.messages
    kept = {message.sequence for message in messages}
    stored = [(sequence, raw) for sequence, raw in found.stored if sequence in kept]
    told, _ = telling(found.pod, messages)
    proved = Bundle.parse(proofs.read_bytes()) if proofs else None
    made = bundle.export(found.pod, found.subject, told.title, stored, rfc3339(time.time_ns()), proved)
    if redact:
        made = _redacted(made, redact)
    raw = bundle.encode(made)
    if str(output) == "-":
        sys.stdout.buffer.write(raw)
        return
    path = output or Path(f"{found.pod[:12]}{SUFFIX}")
    path.write_bytes(raw)
    without = f", without the contents of {', '.join(made.redacted)}" if made.redacted else ""
    click.echo(f"{path}: {len(made.items)} messages, {len(raw)} bytes{without}")


def _redacted(made: bundle.Exported, given: tuple[str, ...]) -> bundle.Exported:
    kinds = {kind for kind in given if kind != NAMES_PRESET} | (set(NAMES) if NAMES_PRESET in given else set())
    return redact(made, kinds)
