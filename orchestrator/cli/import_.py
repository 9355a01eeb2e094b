"""`enclave-cc import FILE`: check an exported launch, and keep it where `describe`, `diff` and `replay` find it.

Zone: host. May import: `click`, `orchestrator`, the standard library. Needs neither bus, network nor root.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import click

from orchestrator.audit.entry import rfc3339
from orchestrator.audit.policy import Policy
from orchestrator.cli import drawing
from orchestrator.cli.sources import IMPORTED, SUFFIX, imported_folder, read_export
from orchestrator.cli.subcommand import Subcommand
from orchestrator.faults import Permanent
from orchestrator.replay.bundle import Exported
from orchestrator.replay.diverge import first_divergence
from orchestrator.replay.redaction import check_proofs
from orchestrator.verify import verify

_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(name="import", cls=Subcommand)
@click.argument("file", type=_file)
@click.option("--policy", type=_file, help="Whom you believe (see `audit`): the file's proofs are held to it.")
@click.option("--check-only", is_flag=True, help="Check it and keep nothing.")
def import_(file: Path, *, policy: Path | None, check_only: bool) -> None:
    """Check an exported launch and keep it as imported:ID.

    Says what was checked and what was not: the file's end, the chain, the leaves, today's decisions; with --policy the
    audit log's proofs.
    """
    exported = read_export(file)
    for line in checked(exported):
        click.echo(drawing.printable(line))
    if policy is not None:
        for accepted, count in check_proofs(exported, Policy.parse(policy.read_bytes())):
            tree = accepted.checkpoint
            witnesses = ", ".join(f"{name} at {rfc3339(at * 10**9)}" for name, at in accepted.witnesses.items())
            of_all = f"{count} of its {len(exported.items)} messages"
            click.echo(f"proved: {of_all} are in {tree.origin} at size {tree.size}; witnesses: {witnesses or 'none'}")
    elif any(item.proof for item in exported.items):
        click.echo("not checked: the audit log's proofs; name with --policy whom you believe")
    if not check_only:
        click.echo(f"kept as {IMPORTED}{_keep(file, exported)[:12]}")


def checked(exported: Exported) -> list[str]:
    """What holds of the file, and what could not be looked at."""
    lines = [
        f"{exported.title or 'names were taken out'}  pod {exported.pod}",
        f"exported at {exported.exported_at} by {', '.join(' '.join(version) for version in exported.versions)}",
        f"checked: {len(exported.items)} messages are whole and chained, and each is what its leaf says",
    ]
    if exported.redacted:
        lines.append(f"not checked: the contents of {', '.join(exported.redacted)}, which were taken out")
        lines += [f"said by whoever exported it: {told}" for told in _decided(exported)]
        return lines
    history = exported.history()
    diverged = first_divergence(exported.pod, history, exported.decided)
    if diverged is None:
        lines.append("checked: today's code decides every message as it was decided")
    else:
        lines.append(f"differs: today's code decides otherwise from fact {diverged.index} on; see `replay`")
    try:
        verified = verify(exported.pod, history)
    except Permanent as fault:
        lines.append(f"does not hold: {fault}")
    else:
        lines += [f"proved: {sentence}" for sentence in verified.proved]
        lines += [f"not proved: {sentence}" for sentence in verified.not_proved]
    return lines


def _decided(exported: Exported) -> Iterator[str]:
    """What the launch had come to, where its facts cannot say it any more."""
    for decision in exported.decided[-1:]:
        states = (
            f"{f'container {whose[: drawing.SHORT]}' if whose else 'the pod'} is {s}" for whose, s in decision.states
        )
        failed = f"it failed with {decision.failure}" if decision.failure else "nothing of it has failed"
        yield f"{', '.join(states)}; {failed}"


def _keep(file: Path, exported: Exported) -> str:
    folder = imported_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{Path(exported.pod).name}{SUFFIX}"
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        partial.write_bytes(file.read_bytes())
        partial.rename(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
    return exported.pod
