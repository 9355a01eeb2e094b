"""`enclave-cc kbs`: make an owner, serve the broker, change what it holds.

Secrets come from files or standard input, never from the command line, where every user of the machine reads them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from deploy.kbs import owner
from deploy.kbs.admin_client import AdminClient
from deploy.kbs.config import KbsConfig
from deploy.kbs.state import PolicyId
from orchestrator.faults import Code, Fault, Permanent
from orchestrator.log import configure
from workers.enclave.kbs import ResourceUri

if TYPE_CHECKING:
    from schemas.strict_json import JsonValue

_POLICIES: Final = {"resource": PolicyId.RESOURCE, "attestation": PolicyId.ATTESTATION}
_HEX_VALUES: Final = {"sgx_mr_enclave": 64, "sgx_config_id": 128}
_SHA256_HEX: Final = 64


class _Group(click.Group):
    """Tells a fault as its diagnosis, with exit status 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Fault as fault:
            click.echo(fault.diagnostics(), err=True)
            ctx.exit(1)


@click.group(cls=_Group)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("kbs"),
    envvar="ENCLAVE_CC_KBS_HOME",
    show_default=True,
    show_envvar=True,
    help="The owner's directory, as `init` made it.",
)
@click.option("--url", help="The broker's address. [default: as configured in HOME]")
@click.pass_context
def kbs(ctx: click.Context, home: Path, url: str | None) -> None:
    """The owner's key broker."""
    ctx.obj = (home, url)


@kbs.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--listen", default="127.0.0.1:8443", show_default=True, help="Where the broker will serve.")
@click.option("--name", "names", multiple=True, help="A further DNS name or IP address of the broker.")
@click.option(
    "--simulated-root",
    "simulated_roots",
    nargs=3,
    multiple=True,
    metavar="NAME ROOT.DER COLLATERAL.JSON",
    help="Verify quotes of a simulated CPU. The policy must allow them as well.",
)
def init(
    directory: Path, listen: str, names: tuple[str, ...], simulated_roots: tuple[tuple[str, str, str], ...]
) -> None:
    """Make an owner in DIRECTORY: authority, certificates, admin key, default policies, configuration."""
    roots = [(name, Path(root).absolute(), Path(collateral).absolute()) for name, root, collateral in simulated_roots]
    for made in owner.create(directory, listen=listen, names=names, simulated_roots=roots):
        click.echo(f"{made.path}: {made.purpose}")


@kbs.command("first-policies")
@click.argument("policies", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("state", type=click.Path(path_type=Path, file_okay=False))
def first_policies(policies: Path, state: Path) -> None:
    """Copy the owner's first policies from POLICIES into a broker's STATE; leave one alone that is there already."""
    for name in owner.put_first_policies(policies, state):
        click.echo(f"{name}: the first")


@kbs.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. [default: kbs.toml in HOME]",
)
@click.pass_obj
def serve(context: tuple[Path, str | None], config: Path | None) -> None:
    """Serve the broker until it is stopped. Refuses to start without signer, policies or roots."""
    # Only here: the server brings the web framework, the policy engine and the quote verifier.
    from deploy.kbs.server import KbsServer  # noqa: PLC0415

    settings = KbsConfig.load(config or context[0] / owner.CONFIG)
    configure("kbs")
    KbsServer(settings).run()


@kbs.command("put-resource")
@click.argument("uri")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def put_resource(context: tuple[Path, str | None], uri: str, file: IO[bytes]) -> None:
    """Store the bytes of FILE (- for standard input) as URI, such as kbs:///default/image-key/redis."""
    name = ResourceUri.parse(uri)
    content = file.read()
    _broker(context).put_resource(name, content)
    click.echo(f"{name}: {len(content)} bytes")


@kbs.command("delete-resource")
@click.argument("uri")
@click.pass_obj
def delete_resource(context: tuple[Path, str | None], uri: str) -> None:
    """Remove URI from the broker."""
    name = ResourceUri.parse(uri)
    _broker(context).delete_resource(name)
    click.echo(f"{name}: removed")


@kbs.command("set-policy")
@click.argument("policy", type=click.Choice(sorted(_POLICIES)))
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.pass_obj
def set_policy(context: tuple[Path, str | None], policy: str, file: IO[str]) -> None:
    """Replace a policy by the Rego in FILE (- for standard input)."""
    _broker(context).set_policy(_POLICIES[policy], file.read())
    click.echo(f"{policy} policy: replaced")


@kbs.command("reference-value")
@click.argument("name")
@click.argument("values", nargs=-1, required=True)
@click.pass_obj
def reference_value(context: tuple[Path, str | None], name: str, values: tuple[str, ...]) -> None:
    """Register VALUES under NAME: a list of strings, or a boolean when the one value is true or false."""
    value = reference_json(name, values)
    _broker(context).set_reference_value(name, value)
    click.echo(f"{name}: {json.dumps(value)}")


@kbs.command()
@click.argument("document", type=click.File("rb"))
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="The public key of whoever releases the payload, PEM.",
)
@click.option("--keep", is_flag=True, help="What is affirmed now stays so as well, while one payload replaces another.")
@click.option(
    "--policies",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of launch-policy.json: admit the payload's boot init there too.",
)
@click.pass_obj
def accept(
    context: tuple[Path, str | None], document: IO[bytes], key: Path, *, keep: bool, policies: Path | None
) -> None:
    """Affirm the agents of a payload by its signed reference values in DOCUMENT (- for standard input).

    Refused are another key's, altered ones, and older ones than those that were accepted last.
    """
    # Only here: the broker itself needs nothing that signs or publishes.
    from deploy.kbs.accept import accept as accept_references  # noqa: PLC0415
    from deploy.publish.policies import PolicyFolder  # noqa: PLC0415
    from deploy.publish.references import LONGEST  # noqa: PLC0415
    from workers.enclave.image.signature import PublicKey  # noqa: PLC0415

    owner_key = PublicKey.parse(key.read_bytes())
    broker = _broker(context)
    references = accept_references(document.read(LONGEST + 1), owner_key, broker, keep=keep)
    boots = references.of("boot")
    if policies is not None:
        PolicyFolder(policies).admit_boot(boots)
    click.echo(
        f"payload {references.version} {references.payload}, signed {references.issued} by {owner_key.fingerprint}"
    )
    for measurement in references.of("agent"):
        click.echo(f"agent   {measurement}: affirmed")
    for measurement in boots:
        where = (
            f"admitted in {policies}; put it: enclave-cc policy put" if policies else "not in a policy yet: --policies"
        )
        click.echo(f"boot    {measurement}: {where}")


def reference_json(name: str, values: tuple[str, ...]) -> JsonValue:
    """What is registered for the words of a command line; `Permanent(INPUT)` for a measurement that is none.

    A CONFIGID may be given as the SHA-256 of the init-data alone: the hardware pads it with zeros.
    """
    if values in {("true",), ("false",)}:
        return values == ("true",)
    digits = _HEX_VALUES.get(name)
    if digits is None:
        return list(values)
    padded = [value.ljust(digits, "0") if len(value) == _SHA256_HEX else value for value in values]
    for value in padded:
        if not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
            raise Permanent(
                Code.INPUT, f"this is no {name}", expected=f"{digits} lower-case hex digits", got=ascii(value[:160])
            )
    return list(padded)


def _broker(context: tuple[Path, str | None]) -> AdminClient:
    home, url = context
    if url is None:
        config = KbsConfig.load(home / owner.CONFIG)
        url = f"https://[{config.host}]:{config.port}" if ":" in config.host else f"https://{config.host}:{config.port}"
    try:
        ca, key = (home / owner.CA_CERTIFICATE).read_text(), (home / owner.ADMIN_KEY).read_bytes()
    except OSError as error:
        raise Permanent(
            Code.NOT_FOUND, "this is no owner's directory", expected=str(error.filename), advice="set --home"
        ) from error
    return AdminClient(url, ca, key)
