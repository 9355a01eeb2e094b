"""`enclave-cc audit checkpoint`, `prove`, `verify`, `fsck`: what can be proved, and whether it holds.

Zone: any. May import: `click`, `orchestrator.{audit,bus,cli,faults}`, the standard library.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from orchestrator.audit import search as searching
from orchestrator.audit import verifier
from orchestrator.audit.bundle import MAX_BYTES, verify_bundle
from orchestrator.audit.bundle import prove as make_bundle
from orchestrator.audit.entry import rfc3339
from orchestrator.audit.merkle import check_consistency
from orchestrator.audit.proof import LogProof
from orchestrator.audit.reader import LogReader
from orchestrator.audit.report import Report
from orchestrator.audit.storage import Folder
from orchestrator.audit.verifier import Auditor
from orchestrator.bus import Bus
from orchestrator.cli import documents, drawing
from orchestrator.cli.audit.places import (
    Opened,
    load_policy,
    open_log,
    open_store,
    read_file,
    read_note,
    reads_the_log,
)
from orchestrator.cli.certificates import certificate
from orchestrator.cli.subcommand import VERIFICATION_FAILED, Subcommand, answers_json, ask, print_json
from orchestrator.faults import Code, Permanent

_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_new_file = click.Path(path_type=Path, dir_okay=False)


@click.command(cls=Subcommand)
@click.option(
    "--keep",
    type=_new_file,
    help="Keep it in this file. What the file holds from last time must be continued, or nothing is kept.",
)
@answers_json
@reads_the_log
def checkpoint(keep: Path | None, *, as_json: bool, **asked: Any) -> None:
    """The newest checkpoint that the policy accepts.

    Keep one now and then, elsewhere than on the log's host: `audit verify --kept` proves with it that nothing before it
    was changed.
    """
    opened = open_log(**asked)
    if keep is not None:
        _keep(opened, keep)
    tree, accepted = opened.accepted.checkpoint, opened.accepted
    told = verifier.checkpoint_time(accepted)
    shown = {
        "origin": tree.origin,
        "size": tree.size,
        "root": tree.root.hex(),
        "time": rfc3339(told * 10**9) if told else None,
        "witnesses": {name: rfc3339(time_ * 10**9) for name, time_ in accepted.witnesses.items()},
    }
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        click.echo(
            f"{name:10} {', '.join(f'{w} at {t}' for w, t in value.items()) if isinstance(value, dict) else value}"
        )


def _keep(opened: Opened, path: Path) -> None:
    tree = opened.accepted.checkpoint
    if path.exists():
        old = opened.policy.accept(read_note(path)).checkpoint
        proof = opened.reader.prove_consistency(old.size, tree.size) if old.size <= tree.size else ()
        check_consistency(old.size, old.root, tree.size, tree.root, proof)
    Folder(path.absolute().parent).replace(path.name, opened.reader.checkpoint().encode())


@click.command(cls=Subcommand)
@click.argument("launch", required=False)
@click.option("--index", type=click.IntRange(0), help="Of one entry instead: a .tlog-proof file.")
@click.option("--out", type=_new_file, required=True, help="The file to write.")
@answers_json
@reads_the_log
def prove(launch: str | None, index: int | None, out: Path, *, as_json: bool, **asked: Any) -> None:
    """Write the proof of LAUNCH to a file that `audit verify` checks without the log."""
    if (launch is None) == (index is None):
        raise click.UsageError("name a LAUNCH, or one entry with --index")
    opened = open_log(**asked)
    if index is not None:
        opened.reader.entry(index, opened.size)  # raises NOT_FOUND
        path = opened.reader.prove_inclusion(index, opened.size)
        raw, about, count = LogProof(index, path, opened.reader.checkpoint()).encode(), f"entry {index}", 1
    else:
        pod = searching.find_pod(opened.reader, opened.size, str(launch))
        found = searching.of_launch(opened.reader, opened.size, pod)
        bundle = make_bundle(pod, found, opened.reader, opened.accepted, opened.policy_text)
        raw, about, count = bundle.encode(), pod, len(bundle.entries)
    Folder(out.absolute().parent).replace(out.name, raw)
    if as_json:
        print_json({"about": about, "entries": count, "bytes": len(raw), "size": opened.size, "file": str(out)})
    else:
        click.echo(f"{out}: {count} entries about {about}, {len(raw)} bytes, in the log at size {opened.size}")


@click.command(cls=Subcommand)
@click.argument("bundle", type=_file, required=False)
@click.option("--root", type=_file, help="Of a bundle: the root certificate that the quote must end at, DER or PEM.")
@click.option("--collateral", type=_file, help="Of a bundle: the quote's collateral, JSON; needs --root.")
@click.option("--kept", type=_file, multiple=True, help="Of a log: a checkpoint that was kept; may be given again.")
@click.option("--max-age", type=click.FloatRange(0), metavar="SECONDS", help="Of a log: how old it may be.")
@click.option("--stream", is_flag=True, help="Of a log: also compare the event stream on the bus with it.")
@answers_json
@reads_the_log
def verify(
    bundle: Path | None,
    root: Path | None,
    collateral: Path | None,
    kept: tuple[Path, ...],
    max_age: float | None,
    *,
    stream: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Verify BUNDLE, or without one the whole log.

    Says what is proved and what is not; ends with 4 when it does not hold.
    """
    if (root is None) != (collateral is None):
        raise click.UsageError("--root and --collateral go together")
    if bundle is not None:
        policy, _ = load_policy(asked["policy"], asked["config"], asked["stack"])
        if bundle.stat().st_size > MAX_BYTES:
            raise Permanent(Code.AUDIT_FORMAT, "the bundle is too large", expected=f"at most {MAX_BYTES} bytes")
        trusted = certificate(root) if root else None
        published = read_file(collateral, "collateral").decode("utf-8", "replace") if collateral else None
        _conclude(verify_bundle(bundle.read_bytes(), policy, root_der=trusted, collateral=published), as_json=as_json)
        return
    reader, auditor = _auditor(kept, max_age, asked)
    report = verifier.verify_log(reader, auditor)
    if stream and report.checks[0].passed:
        report = _with_stream(report, reader, auditor, asked)
    _conclude(report, as_json=as_json)


@click.command(cls=Subcommand)
@click.option("--kept", type=_file, multiple=True, help="A checkpoint that was kept; may be given again.")
@click.option("--max-age", type=click.FloatRange(0), metavar="SECONDS", help="How old the checkpoint may be.")
@answers_json
@reads_the_log
def fsck(kept: tuple[Path, ...], max_age: float | None, *, as_json: bool, **asked: Any) -> None:
    """Verify the log's files alone: signatures, growth, every tile, every entry. Quicker than `verify`."""
    reader, auditor = _auditor(kept, max_age, asked)
    _conclude(verifier.fsck(reader, auditor), as_json=as_json)


def _auditor(kept: tuple[Path, ...], max_age: float | None, asked: dict[str, Any]) -> tuple[LogReader, Auditor]:
    policy, _ = load_policy(asked["policy"], asked["config"], asked["stack"])
    reader = LogReader(open_store(asked["log"], asked["config"], asked["stack"]))
    return reader, Auditor(policy, [read_note(path) for path in kept], time.time(), max_age)


def _with_stream(report: Report, reader: LogReader, auditor: Auditor, asked: dict[str, Any]) -> Report:
    from orchestrator.audit.stream import compared  # noqa: PLC0415 - only here the bus is needed

    async def question(bus: Bus) -> Report:
        size = auditor.policy.accept(reader.checkpoint()).checkpoint.size
        return await compared(report, reader, size, bus)

    return ask(asked["config"], asked["stack"], question)


def _conclude(report: Report, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "verified": not report.faults,
                "checks": [
                    {
                        "number": check.number,
                        "asks": check.asks,
                        "passed": check.passed,
                        "looked_at": check.told,
                        "faults": [documents.diagnosis(fault) for fault in check.faults],
                    }
                    for check in report.checks
                ],
                "proved": list(report.proved),
                "not_proved": list(report.not_proved),
            }
        )
    else:
        _print(report)
    if report.faults:
        _fail()


def _print(report: Report) -> None:
    for check in report.checks:
        looked_at = f" ({check.told})" if check.told else ""
        click.echo(f"{check.number} {'ok    ' if check.passed else 'FAILED'} {check.asks}{looked_at}")
        for fault in check.faults:
            for line in fault.text().splitlines():
                click.echo(drawing.printable(f"    {line}"))
    for sentence in report.proved:
        click.echo(drawing.printable(f"proved:     {sentence}"))
    for sentence in report.not_proved:
        click.echo(drawing.printable(f"not proved: {sentence}"))


def _fail() -> NoReturn:
    sys.exit(VERIFICATION_FAILED)
