"""`enclave-cc up`, `down`, `status`: one machine's whole stack, for trying, developing and testing.

Zone: host. May import: `click`, `rich`, `deploy.local`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from deploy.local.layout import DEFAULT_NAME, Layout
from deploy.local.stack import Stack
from orchestrator.faults import Code, Fault

_name = click.option(
    "--name", default=DEFAULT_NAME, show_default=True, help="Which stack; several may run side by side."
)


@click.command()
@_name
def up(name: str) -> None:
    """Start the stack, making it first if there is none. What runs already is left alone."""
    try:
        stack = Stack.open_(name)
    except Fault as fault:
        if fault.code is not Code.NOT_FOUND:
            raise
        stack = Stack.create(name)
    stack.up(lambda line: click.echo(line, err=True))
    for label, value in _addresses(stack.layout):
        click.echo(f"{label:<12}{value}")


@click.command()
@_name
@click.option("--keep-data", is_flag=True, help="Keep histories, images and keys for the next `up`.")
def down(name: str, *, keep_data: bool) -> None:
    """Stop the stack and remove every trace of it; exit 1, naming them, if any is left."""
    left = Stack.open_(name).down(lambda line: click.echo(line, err=True), keep_data=keep_data)
    for trace in left:
        click.echo(f"left behind: {trace}", err=True)
    if left:
        sys.exit(1)
    click.echo("nothing is left behind" if not keep_data else "stopped; its data is kept")


@click.command()
@_name
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def status(name: str, *, as_json: bool) -> None:
    """Every process of the stack; exit 1 unless all are ready."""
    stack = Stack.open_(name)
    processes = stack.status()
    if as_json:
        document = {"processes": [asdict(process) for process in processes], **dict(_addresses(stack.layout))}
        click.echo(json.dumps(document, indent=1))
    else:
        table = Table("process", "state", "pid", "ready", box=None)
        for process in processes:
            table.add_row(process.name, process.state, str(process.pid or "-"), "yes" if process.ready else "no")
        Console().print(table)
        for label, value in _console(stack.layout):
            click.echo(f"{label:<12}{value}")
    if not all(process.ready for process in processes):
        sys.exit(1)


def _addresses(layout: Layout) -> list[tuple[str, str]]:
    return [
        ("data", str(layout.root)),
        ("bus", layout.bus_url),
        ("registry", layout.registry_host),
        ("kbs", layout.kbs_url),
        ("containerd", f"unix://{layout.containerd}"),
        *_console(layout),
    ]


def _console(layout: Layout) -> list[tuple[str, str]]:
    """Where a browser goes, and the file with what it is asked for there."""
    return [("console", layout.console_url), ("token", str(layout.console_token))]
