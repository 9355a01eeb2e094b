"""`enclave-cc export LAUNCH`: its history as one file, for another machine, another day, or somebody else's eyes.

Zone: host. May import: `click`, `orchestrator`, the standard library.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from orchestrator.audit.bundle import Bundle, prove
from orchestrator.audit.entry import rfc3339
from orchestrator.audit.search import of_messages
from orchestrator.cli import drawing
from orchestrator.cli.audit.places import open_log
from orchestrator.cli.describe import telling
from orchestrator.cli.sources import SUFFIX, Source, source
from orchestrator.cli.subcommand import Subcommand, reads_the_bus, takes_a_launch
from orchestrator.faults import Code, Permanent
from orchestrator.replay import bundle
from orchestrator.replay.at import Moment, until
from orchestrator.replay.bundle import proofs_of
from orchestrator.replay.redaction import NAMES, redact

NAMES_PRESET = "names"
_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(name="export", cls=Subcommand)
@takes_a_launch()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), help="- is standard output."
)
@click.option("--at", metavar="N|TIME", help="Only what was there after fact N, at a time, or so long after the first.")
@click.option(
    "--proofs",
    type=_file,
    help="The proofs of this bundle (`enclave-cc audit prove`). Default: those of the audit log beside the settings.",
)
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
    proved = proofs_of(Bundle.parse(proofs.read_bytes())) if proofs else _proofs(found, config, stack)
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
    count = sum(1 for item in made.items if item.proof)
    click.echo(f"{path}: {len(made.items)} messages, {count} with proofs, {len(raw)} bytes{without}")


def _proofs(found: Source, config: Path | None, stack: str | None) -> dict[int, str]:
    """Those that the file has, or that the log gives. Why a log gives none is told, and nothing stops for it."""
    if found.exported is not None:
        return {item.sequence: item.proof for item in found.exported.items}
    try:
        opened = open_log(None, None, config, stack)
        sequences = [sequence for sequence, _ in found.stored]
        entries = of_messages(opened.reader, opened.size, found.pod, sequences)
        return proofs_of(prove(found.pod, entries, opened.reader, opened.accepted, opened.policy_text))
    except Permanent as fault:
        if fault.code is not Code.NOT_FOUND:  # no log, or none of these messages in it yet
            click.echo(drawing.printable(f"without proofs: {fault}"), err=True)
        return {}


def _redacted(made: bundle.Exported, given: tuple[str, ...]) -> bundle.Exported:
    kinds = {kind for kind in given if kind != NAMES_PRESET} | (set(NAMES) if NAMES_PRESET in given else set())
    return redact(made, kinds)
