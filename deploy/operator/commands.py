"""`enclave-cc operator`: run it, see how a cluster is, print the documents that it needs.

Zone: host.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import IO, Any

import click

from deploy.operator import names


@click.group()
def operator() -> None:
    """The runtime on a Kubernetes cluster's nodes."""


@operator.command()
@click.option("--namespace", default=names.NAMESPACE, show_default=True, help="Where its Jobs and its Lease are.")
@click.option("--liveness", default="http://0.0.0.0:8080/healthz", show_default=True, help="Where it answers probes.")
@click.option("--identity", default="", help="Its name in the Lease. [default: host name and process]")
@click.option(
    "--certificate", type=click.Path(path_type=Path, exists=True), help="PEM; serves the webhooks with --key."
)
@click.option("--key", type=click.Path(path_type=Path, exists=True), help="The certificate's private key, PEM.")
@click.option("--webhook-port", default=9443, show_default=True, help="Where /validate and /prefetch are served.")
def run(
    namespace: str, liveness: str, identity: str, certificate: Path | None, key: Path | None, webhook_port: int
) -> None:
    """Decide for every EnclaveRuntime, until stopped. Any number may run; one of them decides."""
    # Only here: the other subcommands start without the operator's libraries.
    import kopf  # noqa: PLC0415
    from lightkube import AsyncClient  # noqa: PLC0415

    from deploy.operator.cluster import Cluster  # noqa: PLC0415
    from deploy.operator.controller import Controller  # noqa: PLC0415
    from deploy.operator.handlers import registry_of, settings_of  # noqa: PLC0415
    from deploy.operator.leader import Leader  # noqa: PLC0415
    from orchestrator.log import configure  # noqa: PLC0415

    configure("operator")

    async def serve() -> None:
        async with AsyncClient(field_manager=names.FIELD_MANAGER) as client:
            leader = Leader(client, namespace, identity or f"{socket.gethostname()}-{os.getpid()}")
            controller = Controller(Cluster(client, namespace), leader)
            registry = registry_of(controller)
            if certificate and key:
                from deploy.operator.admission.webhook import register  # noqa: PLC0415

                register(registry)
            await kopf.operator(
                registry=registry,
                settings=settings_of(certificate, key, webhook_port),
                namespaces=[namespace],
                liveness_endpoint=liveness,
            )
            await leader.give_up()

    asyncio.run(serve())


@operator.command()
@click.option("--json", "as_json", is_flag=True, help="The resources' names and statuses as JSON.")
def status(as_json: bool) -> None:
    """How every EnclaveRuntime of the cluster is, node by node. Ends with 1 where one is not Ready."""
    found = asyncio.run(_statuses())
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for entry in found:
            click.echo("\n".join(_lines(entry["name"], entry["status"])))
    if not all(_holds(entry["status"], "Ready") for entry in found):
        click.get_current_context().exit(1)


@operator.command()
def crd() -> None:
    """Print the CustomResourceDefinition, for `kubectl apply -f -`."""
    click.echo(Path(__file__).with_name("crd.yaml").read_text(encoding="utf-8"), nl=False)


@operator.command()
def admission() -> None:
    """Print the ValidatingAdmissionPolicy and its binding (Kubernetes 1.30 and later), for `kubectl apply -f -`."""
    from deploy.operator.admission.policy import policy  # noqa: PLC0415

    click.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": policy()}, indent=2))


@operator.command()
@click.argument("file", type=click.File("rb"))
def convert(file: IO[bytes]) -> None:
    """An EnclaveRuntime from the upstream operator's CcRuntime, as JSON; what does not map is told on standard error.

    FILE is the resource as JSON: `kubectl get ccruntime NAME -o json`.
    """
    from deploy.operator.ccruntime import converted  # noqa: PLC0415

    try:
        document = json.loads(file.read())
    except ValueError as error:
        raise click.BadParameter("not JSON") from error
    if not isinstance(document, dict):
        raise click.BadParameter("not a resource")
    made, left = converted(document)
    click.echo(json.dumps(made, indent=2))
    for name in left:
        click.echo(f"left out: {name}", err=True)


async def _statuses() -> list[dict[str, Any]]:
    from lightkube import AsyncClient  # noqa: PLC0415 - the client's models cost a third of a second

    from deploy.operator.cluster import Cluster  # noqa: PLC0415

    async with AsyncClient() as client:
        resources = await Cluster(client, names.NAMESPACE).resources()
    return [{"name": found["metadata"]["name"], "status": found.get("status") or {}} for found in resources]


def _holds(status: dict[str, Any], kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in status.get("conditions", ()))


def _lines(name: str, status: dict[str, Any]) -> list[str]:
    lines = [f"{name}  {status.get('nodesServing', 0)} of {status.get('nodesSelected', 0)} nodes serve"]
    lines += [f"  {c['type']:<12}{c['status']:<7}{c['message']}" for c in status.get("conditions", ())]
    for node in status.get("nodes", ()):
        digest = node.get("payloadDigest", "")[7:23]
        lines.append(f"  {node['name']:<32}{node['phase']:<16}{digest:<18}{node.get('error', '')}".rstrip())
    return lines
