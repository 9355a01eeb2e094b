"""`enclave-cc demo`.

Zone: host. May import: `click`, `rich`, `deploy.local.{demo,layout}`, `orchestrator.faults`.
"""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console

from deploy.local.demo.scenario import Demo
from deploy.local.layout import Layout
from orchestrator.faults import Fault


@click.command()
@click.argument("image", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output; progress on the other.")
@click.option("--keep", is_flag=True, help="Leave everything running, and say how to look around.")
def demo(image: str | None, *, as_json: bool, keep: bool) -> None:
    """Run the whole system once on this machine, and take it away again.

    IMAGE is an OCI layout folder, an OCI archive or a registry reference; by default a Debian userland with
    redis-server, built from packages. Exit status: 0 when everything was as it must be, 1 when not.
    """
    console = Console(stderr=True, highlight=False)
    run = Demo(
        image,
        lambda text: console.print(f"\n[bold]{text}[/bold]", soft_wrap=True),
        lambda text: console.print(f"  {text}", soft_wrap=True, markup=False),
    )
    fault: Fault | None = None
    try:
        stack = run.run()
        if keep:
            console.print(f"\n[bold]It goes on running.[/bold] Look around:\n{_hints(stack.layout)}")
    except Fault as raised:
        fault = raised
        console.print(raised.diagnostics(), style="red", markup=False)
    finally:
        if run.stack is not None and not keep:
            run.down(run.stack)
    ok = fault is None and run.report.ok
    if as_json:
        click.echo(json.dumps(run.report.document(), indent=1))
    if not as_json:
        console.print(
            "\n[bold green]Everything was as it must be.[/bold green]" if ok else "\n[bold red]It was not.[/]"
        )
    sys.exit(0 if ok else 1)


def _hints(layout: Layout) -> str:
    name = layout.name
    return (
        f"  {layout.console_url} in a browser, with the token in {layout.console_token}\n"
        f"  enclave-cc status --name {name}\n"
        f"  enclave-cc launches --name {name}\n"
        f"  enclave-cc down --name {name}        # when you are done"
    )
