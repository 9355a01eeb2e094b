"""`enclave-cc node`: install, upgrade, rollback, uninstall, status, check.

Zone: host. May import: `click`, `deploy.node`, `orchestrator.faults`.

Exit status: 0 done, also when there was nothing to do; 1 failed, and undone; 2 the command line was wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from deploy.node import flavours, oci, payload
from deploy.node.containerd import Program
from deploy.node.operations import Operations
from deploy.node.places import Places
from deploy.node.probe import Served
from deploy.node.report import Report
from deploy.node.services import Services, supervisord, systemd
from deploy.node.services.supervisord import Supervisord
from deploy.node.services.systemd import Systemd
from deploy.node.steps import Node
from orchestrator.faults import Code, Diagnosis, Fault

OWN: Final = Path(__file__).resolve().parents[2]


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    folder = click.Path(path_type=Path, file_okay=False, exists=True)
    options = (
        click.option(
            "--root", type=folder, default=Path("/"), show_default=True, help="Where the node's root is seen."
        ),
        click.option(
            "--seen-as",
            type=click.Path(path_type=Path),
            default=Path("/"),
            show_default=True,
            help="What the node's own programs call that folder.",
        ),
        click.option("--machine-id", metavar="HEX", default="", help="Refuse any machine but this one."),
        click.option("--json", "as_json", is_flag=True, help="End with one JSON document."),
        click.option("--report", type=click.Path(path_type=Path), help="Write that document to a file."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _with_payload(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--digest", metavar="DIGEST", default="", help="Of the payload's image: what it is known by."),
        click.option(
            "--payload",
            "folder",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            default=None,
            help="The payload, unpacked or as an OCI layout; by default the one that this program is part of.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def node() -> None:
    """This node's software: install, upgrade, roll back, remove; containerd's configuration with it."""


@node.command()
@_shared
@_with_payload
def install(**given: Any) -> None:
    """Let this node serve the payload, whatever it served before."""
    _run(given, lambda operations: operations.install())


@node.command()
@_shared
@_with_payload
def upgrade(**given: Any) -> None:
    """As install, where something is installed already."""
    _run(given, lambda operations: operations.install(upgrade=True))


@node.command()
@_shared
def rollback(**given: Any) -> None:
    """Go back to the payload before the last upgrade."""
    _run(given, lambda operations: operations.rollback())


@node.command()
@_shared
def uninstall(**given: Any) -> None:
    """Take everything off this node again. Refused while confidential pods run on it."""
    _run(given, lambda operations: operations.uninstall())


@node.command()
@_shared
def status(**given: Any) -> None:
    """What is installed, and whether it runs."""

    def ask(operations: Operations) -> Report:
        report, facts = operations.status()
        for name, good in facts.items():
            click.echo(f"{name:<24}{'yes' if good else 'no'}", err=True)
        return report

    _run(given, ask)


@node.command()
@_shared
@_with_payload
def check(**given: Any) -> None:
    """What an install would do, and whether containerd would read the result. Changes nothing."""

    def ask(operations: Operations) -> Report:
        report, made = operations.check()
        for step in made.steps:
            click.echo(f"would {step.name}", err=True)
        return report

    _run(given, ask)


def services_of(places: Places, flavour: flavours.Flavour) -> Services:
    """systemd's where its socket is, else supervisord's."""
    private = places.here(systemd.SOCKET)
    if private.exists():
        return Systemd(private, flavour.units)
    return Supervisord(places.here(supervisord.SOCKET))


def _run(given: dict[str, Any], act: Callable[[Operations], Report]) -> None:
    try:
        with ExitStack() as stack:
            report = act(_operations(given, stack))
    except Fault as fault:
        report = Report("failed", error=fault.diagnosis)
    except OSError as problem:
        report = Report("failed", error=Diagnosis(Code.RUNTIME, f"{type(problem).__name__}: {problem}"))
    if report.error is not None:
        click.echo(report.error.text(), err=True)
    text = report.text()
    if given["report"]:
        given["report"].write_text(text)
    if given["as_json"]:
        click.echo(text)
    elif report.error is None:
        click.echo(f"{report.phase}  {report.payload or ''}".strip())
    if report.error is not None:
        sys.exit(1)


def _operations(given: dict[str, Any], stack: ExitStack) -> Operations:
    places = Places(given["root"].absolute(), given["seen_as"])
    flavour = flavours.detect(places)
    source, read = None, None
    if "folder" in given:
        source, digest = given["folder"] or _own_payload(), given["digest"]
        if (source / oci.MARK).exists():
            source, digest = stack.enter_context(oci.unpacked(source, digest))
        read = payload.read(source, digest)
    node_ = Node(
        places,
        services_of(places, flavour),
        Program(places, flavour),
        lambda socket: Served(places.reach(socket)),
        source,
        read,
    )
    return Operations(node_, flavour, given["machine_id"], lambda line: click.echo(line, err=True))


def _own_payload() -> Path:
    """The payload's root, of which this module is a part: the nearest folder above that has a payload.json."""
    return next((parent for parent in OWN.parents if (parent / payload.MANIFEST).exists()), Path("/"))
