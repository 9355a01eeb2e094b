"""`enclave-cc`: the one command, mounting the subcommands of the control plane, the owner's tools and this machine's.

Zone: whichever its subcommand's is. May import: anything; imports a subcommand only when it is asked for, so that
`--help`, completion and every other subcommand start fast.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Final

import click
from click.shell_completion import get_completion_class

from orchestrator.faults import Code, Fault, Permanent, Temporary

SUBCOMMANDS: Final = {
    "demo": ("deploy.local.demo.command:demo", "The whole system once, on this machine, and away again."),
    "up": ("deploy.local.commands:up", "Start this machine's stack and keep it."),
    "down": ("deploy.local.commands:down", "Stop it, and prove that nothing is left."),
    "status": ("deploy.local.commands:status", "How its processes are."),
    "launches": ("orchestrator.cli.launches:launches", "List launches."),
    "show": ("orchestrator.cli.show:show", "One launch: what each step took, what was judged, why it failed."),
    "events": ("orchestrator.cli.events:events", "A launch's history, message by message."),
    "follow": ("orchestrator.cli.follow:follow", "What happens, as it happens."),
    "logs": ("orchestrator.cli.logs:logs", "What a container wrote; opened and checked, where it is sealed."),
    "verify": ("orchestrator.cli.verify:verify", "What a launch's history proves, and what it does not."),
    "audit": ("orchestrator.cli.audit:audit", "The transparency log of all facts: read, prove, verify, write."),
    "console": ("orchestrator.console.command:console", "Every launch, live, in a browser."),
    "describe": ("orchestrator.cli.describe:describe", "Why a launch failed, what leads there, what to do next."),
    "diff": ("orchestrator.cli.diff:diff", "Two launches: where their ways part, and what was different before."),
    "replay": ("deploy.whatif:replay", "Fold histories again: with today's code, or before another policy."),
    "export": ("orchestrator.cli.export:export", "A launch's history as one file."),
    "import": ("orchestrator.cli.import_:import_", "Check such a file, and keep it."),
    "resume": (
        "orchestrator.cli.resume:resume",
        "What failed and is held goes on; one launch, or all that a query admits.",
    ),
    "fork": ("orchestrator.cli.fork:fork", "Launch again, beside it, what a launch was asked for."),
    "stop": ("orchestrator.cli.stop:stop", "Remove everything that was made for a launch."),
    "publish": ("deploy.publish.cli:publish", "Encrypt, sign and push an image; register its key and its policies."),
    "keygen": ("deploy.publish.cli:keygen", "Make a key that signs images."),
    "output-key": ("deploy.publish.output:output_key", "Make a key that opens sealed output."),
    "policy": ("deploy.publish.cli:policy", "The owner's image and launch policy: admit, seal-output, check, put."),
    "kbs": ("deploy.kbs.cli:kbs", "The owner's key broker: init, serve, resources, policies, reference values."),
    "node": ("deploy.node.commands:node", "This node's software: install, upgrade, roll back, remove, check."),
    "cluster": ("deploy.cluster.commands:cluster", "A cluster's control plane: its identities, its streams."),
    "payload": (
        "deploy.payload.commands:payload",
        "What a node is given, measured: build, inspect, verify, diff, sign, push.",
    ),
    "operator": (
        "deploy.operator.commands:operator",
        "The runtime on a Kubernetes cluster: run the operator, see its nodes.",
    ),
}
"""Name: (module and attribute, the line that `--help` shows). In the order of `--help`."""

EX_TEMPFAIL: Final = 75
"""sysexits.h: a fault that may be gone when the command is tried again."""


class LazyGroup(click.Group):
    """Knows its subcommands' names and one-line helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the table's order, then what is defined here."""
        return [*SUBCOMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a subcommand and take its command."""
        if cmd_name not in SUBCOMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = SUBCOMMANDS[cmd_name][0].partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise Permanent(
                Code.NOT_HERE,
                f"`enclave-cc {cmd_name}` is not part of this installation",
                expected=f"the module {error.name}",
                got=f"an installation of what a node needs, or a partial one, in {sys.prefix}",
                advice="run it where the whole of enclave-cc is installed; the commands of a node are: enclave-cc node",
            ) from error
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of `--help`, from the table."""
        own = [(name, super(LazyGroup, self).get_command(ctx, name)) for name in super().list_commands(ctx)]
        rows = [(name, line) for name, (_, line) in SUBCOMMANDS.items()]
        rows += [(name, command.get_short_help_str(80)) for name, command in own if command]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="enclave-cc", prog_name="enclave-cc")
def enclave_cc() -> None:
    """Kubernetes pods in SGX enclaves; every launch a persisted, provable history."""


@enclave_cc.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes this command in SHELL.

    bash: `eval "$(enclave-cc completion bash)"`, in ~/.bashrc to keep it.
    """
    script = get_completion_class(shell)
    if script is None:
        raise click.ClickException(f"no completion for {shell}")
    click.echo(script(enclave_cc, {}, "enclave-cc", "_ENCLAVE_CC_COMPLETE").source())


def main() -> None:
    """Run; a fault prints its diagnosis and exits 1, or 75 when trying again may help."""
    # asyncio warns at every TLS connection that the bus client closes in its own way.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    try:
        enclave_cc(prog_name="enclave-cc")
    except Fault as fault:
        click.echo(fault.diagnostics(), err=True)
        sys.exit(EX_TEMPFAIL if isinstance(fault, Temporary) else 1)


if __name__ == "__main__":
    main()
