"""`enclave-cc verify LAUNCH`: what its history proves, and what it does not.

Zone: host; the auditor's too. May import: `click`, `orchestrator.{bus,cli,faults,verify}`, the standard library.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from orchestrator.bus import Bus, Histories
from orchestrator.cli import documents, drawing
from orchestrator.cli.certificates import certificate
from orchestrator.cli.finding import find
from orchestrator.cli.subcommand import (
    VERIFICATION_FAILED,
    Subcommand,
    answers_json,
    ask,
    print_json,
    reads_the_bus,
    takes_a_launch,
)
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.verify import Verified
from orchestrator.verify import verify as check

FAILURES = frozenset({Code.BUS_HISTORY, Code.FACT_FORGED, Code.ATTEST_QUOTE})
"""The codes that say that a history does not hold; any other fault says that it could not be looked at."""

_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(cls=Subcommand)
@takes_a_launch()
@click.option("--root", type=_file, help="The root certificate that the quote must end at, DER or PEM.")
@click.option("--collateral", type=_file, help="The quote's collateral, JSON. Without --root: under Intel's root.")
@answers_json
@reads_the_bus
def verify(
    launch: str, config: Path | None, stack: str | None, *, root: Path | None, collateral: Path | None, as_json: bool
) -> None:
    """Verify a launch's history: its chain, every enclave's signature, the quote that binds their key.

    With --collateral also the quote itself, as of the time of its fact. Says what is proved and what is not; ends with
    4 when it does not hold.
    """
    if root is not None and collateral is None:
        raise click.UsageError("--root needs --collateral")

    async def question(bus: Bus) -> tuple[str, list[Recorded | Foreign]]:
        histories = Histories(bus)
        pod = await find(histories, launch)
        return pod, await histories.read(pod)

    root_der = certificate(root) if root is not None else None
    published = _text(collateral) if collateral is not None else None
    pod, messages = ask(config, stack, question)
    try:
        found = check(pod, messages, root_der=root_der, collateral=published)
    except Permanent as fault:
        if fault.code not in FAILURES:
            raise
        _refuse(pod, fault, as_json=as_json)
    else:
        _accept(found, as_json=as_json)


def _accept(found: Verified, *, as_json: bool) -> None:
    if as_json:
        print_json(documents.verified(found))
        return
    for line in found.proved:
        click.echo(drawing.printable(f"proved:     {line}"))
    for line in found.not_proved:
        click.echo(drawing.printable(f"not proved: {line}"))


def _refuse(pod: str, fault: Permanent, *, as_json: bool) -> None:
    if as_json:
        print_json({"pod": pod, "verified": False, "fault": documents.diagnosis(fault.diagnosis)})
    else:
        click.echo(drawing.printable(fault.diagnostics()), err=True)
    sys.exit(VERIFICATION_FAILED)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise Permanent(Code.INPUT, f"{path} is no text", expected="collateral as JSON", got="other bytes") from error
