"""`enclave-cc cluster`: a cluster's identities, and its streams.

Zone: host. May import: `click`, `deploy.cluster`, `orchestrator`.

No pod of ours may create or read a Kubernetes secret by the API: an administrator makes them here and applies them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Final

import click

from deploy.cluster import identities
from deploy.cluster.identities import Home, Secret
from orchestrator.bus import connect, ensure_streams
from orchestrator.bus.settings import BusSettings
from orchestrator.cli.subcommand import Subcommand
from orchestrator.faults import Code, Permanent
from orchestrator.log import configure

HOME: Final = "home.json"
SECRETS: Final = "secrets.json"
_DISK_BYTES: Final = -1
"""No limit of the account's: a cluster would count every replica against it. Each server holds to its own."""

_folder = click.Path(path_type=Path, file_okay=False)
_release = click.option("--release", default="enclave-cc", show_default=True, help="Begins every secret's name.")
_namespace = click.option("--namespace", default="enclave-cc-system", show_default=True, help="Where they will lie.")


@click.group()
def cluster() -> None:
    """A cluster's control plane: its identities, its streams."""


@cluster.command("identities", cls=Subcommand)
@click.argument("folder", type=_folder)
@_release
@_namespace
@click.option("--server", "servers", multiple=True, help="A further DNS name or address of the bus, for nodes.")
@click.option("--console", "consoles", multiple=True, help="A DNS name or address by which browsers call the console.")
@click.option("--log", help="The audit log's name, for good. Default: RELEASE.NAMESPACE/audit.")
def make(
    folder: Path, release: str, namespace: str, servers: tuple[str, ...], consoles: tuple[str, ...], log: str | None
) -> None:
    """Make a new bus's identities in FOLDER: home.json, which renews them, and secrets.json for `kubectl apply`.

    Move home.json to a safe place: no process needs it. Delete secrets.json once it is applied.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Permanent(Code.INPUT, "there is already something here", expected="a new folder", got=str(folder))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    home = Home.generate([*_service(release, "bus", namespace), *servers])
    names = [*_service(release, "console", namespace), "localhost", "127.0.0.1", *consoles]
    secrets = [
        *identities.entrances(home, _DISK_BYTES),
        *identities.beginnings(home, names, log or f"{release}.{namespace}/audit"),
    ]
    _write(folder / HOME, home.text())
    _write(folder / SECRETS, _manifest(secrets, release, namespace))
    click.echo(f"{folder / HOME}: renews the rest; keep it off the cluster\n{folder / SECRETS}: for kubectl apply")


@cluster.command("renew", cls=Subcommand)
@click.argument("folder", type=_folder)
@_release
@_namespace
@click.option("--agents", is_flag=True, help="The key that signs pods' agents too: pods that run lose their agents.")
def renew(folder: Path, release: str, namespace: str, *, agents: bool) -> None:
    """Write secrets.json in FOLDER anew, from home.json: new users and certificates, the same accounts.

    Users of before are out as soon as the bus runs with the new secrets.
    """
    try:
        home = Home.parse((folder / HOME).read_text())
    except OSError as error:
        raise Permanent(
            Code.NOT_FOUND, "there are no identities here", expected=f"{folder / HOME}", got=type(error).__name__
        ) from error
    if agents:
        home = home.with_new_agents()
        _write(folder / HOME, home.text())
    _write(folder / SECRETS, _manifest(identities.entrances(home, _DISK_BYTES), release, namespace))
    click.echo(f"{folder / SECRETS}: for kubectl apply; then restart the bus, and what enters it")


@cluster.command("streams", cls=Subcommand)
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Of the role admin.")
@click.option("--replicas", type=click.IntRange(1, 5), default=1, show_default=True, help="Servers that keep each.")
def streams(config: Path, replicas: int) -> None:
    """Make the streams that are missing; leave those that are there. Waits for the bus."""
    configure("streams")

    async def ensure() -> None:
        async with await connect(BusSettings.load(config).enter(), "streams", patience=_PATIENCE) as connected:
            await ensure_streams(connected, replicas)

    asyncio.run(ensure())
    click.echo(f"the streams are there, for {replicas} replica{'s' * (replicas != 1)}")


@cluster.command("private-copy", cls=Subcommand)
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def private_copy(source: Path, target: Path) -> None:
    """Copy SOURCE to TARGET, mode 0600: a mounted secret is its group's to read, and the console's token may not be."""
    _write(target, source.read_text())


_PATIENCE: Final = 60.0
"""Seconds in which a bus that has just been installed is expected to answer; a Job tries again after that."""


def _service(release: str, part: str, namespace: str) -> list[str]:
    """Every name by which pods may call a service, and, of a set of servers, each of them."""
    name = f"{release}-{part}"
    qualified = [f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local"]
    peers = [f"*.{name}-peers.{namespace}.svc"] if part == "bus" else []
    return [name, *qualified, *peers]


def _manifest(secrets: list[Secret], release: str, namespace: str) -> str:
    """A Kubernetes List, as JSON."""
    items = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "name": f"{release}-{secret.name}",
                "namespace": namespace,
                "labels": {"app.kubernetes.io/part-of": "enclave-cc", "app.kubernetes.io/instance": release},
            },
            "data": {name: base64.b64encode(content).decode() for name, content in secret.files.items()},
        }
        for secret in secrets
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1) + "\n"


def _write(path: Path, text: str) -> None:
    """Replace `path`, readable by this user only."""
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
