"""`enclave-cc publish`, `keygen` and `policy`: the owner's commands.

Secrets come from files or a prompt, never from the command line or the environment, where others read them.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from deploy.kbs import durable
from deploy.kbs.admin_client import AdminClient
from deploy.publish.cosign_key import SigningKey
from deploy.publish.output import read_recipient
from deploy.publish.policies import PolicyFolder
from deploy.publish.publication import Publisher
from deploy.publish.source import open_image
from orchestrator.faults import Code, Permanent
from workers.enclave.image.credentials import find_credentials
from workers.enclave.image.reference import parse_name, parse_reference
from workers.enclave.image.registry import Registry
from workers.enclave.image.signature import PublicKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.enclave.image.reference import Reference

_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER: Final = click.Path(path_type=Path, file_okay=False)
_PATIENCE_SECONDS: Final = 2.0
"""A bar for what is over at once would be noise."""

_policy_folder = click.option(
    "--policies",
    type=_FOLDER,
    default=Path("policies"),
    show_default=True,
    help="The folder of image-policy.json and launch-policy.json.",
)
_kbs = click.option("--kbs", required=True, help="The key broker's address.")
_kbs_ca = click.option("--kbs-ca", type=_FILE, required=True, help="The broker's authority, PEM.")
_admin_key = click.option("--admin-key", type=_FILE, required=True, help="The owner's key to the broker, PEM.")


@click.command()
@click.argument("image")
@click.option("--to", "target", required=True, metavar="HOST/REPO:TAG", help="Where the encrypted image goes.")
@_kbs
@_kbs_ca
@_admin_key
@click.option("--key", type=_FILE, required=True, help="The signing key, as `keygen` or cosign made it.")
@click.option("--key-password-file", type=_FILE, help="Its password. [default: asked for]")
@_policy_folder
@click.option("--boot-measurement", "boots", multiple=True, metavar="HEX", help="A boot init to admit.")
@click.option("--registry-ca", type=_FILE, help="The registry's authority, PEM. [default: this machine's]")
@click.option("--registry-auth", type=_FILE, help="A docker authentication file, as `docker login` writes it.")
@click.option("--again", is_flag=True, help="Encrypt anew, under a new key, even if this image is published.")
def publish(
    image: str,
    target: str,
    kbs: str,
    kbs_ca: Path,
    admin_key: Path,
    key: Path,
    key_password_file: Path | None,
    policies: Path,
    boots: tuple[str, ...],
    registry_ca: Path | None,
    registry_auth: Path | None,
    again: bool,
) -> None:
    """Encrypt IMAGE, push and sign it, register its key and the policies that admit it.

    IMAGE is oci:FOLDER[:TAG], oci-archive:FILE[:TAG], docker://HOST/REPO:TAG, or a folder, file or name by itself.
    Published before, it is only admitted again.
    """
    reference = parse_reference(target)
    signing_key = SigningKey.read(key.read_bytes(), _password(key_password_file))
    folder = PolicyFolder(policies)
    folder.admit_boot(boots)
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(contextlib.closing(_registry(reference, registry_ca, registry_auth)))
        broker = stack.enter_context(contextlib.closing(AdminClient(kbs, kbs_ca.read_text(), admin_key.read_bytes())))
        plain = open_image(image, registry=registry)
        publisher = Publisher(registry, broker, signing_key, folder)
        progress = stack.enter_context(_progress(sum(layer.size for layer in plain.manifest.layers)))
        published = publisher.publish(plain, reference, again=again, progress=progress)
    click.echo(str(published.reference))
    click.echo(
        f"{'published' if published.fresh else 'was published before'}; key {', '.join(published.kids)}", err=True
    )


@click.command()
@click.argument("prefix", type=click.Path(path_type=Path), default=Path("cosign"))
@click.option("--password-file", type=_FILE, help="The key's password. [default: asked for]")
def keygen(prefix: Path, password_file: Path | None) -> None:
    """Make a signing key: PREFIX.key, encrypted in cosign's format, and PREFIX.pub."""
    private, public = prefix.with_name(f"{prefix.name}.key"), prefix.with_name(f"{prefix.name}.pub")
    for path in (private, public):
        if path.exists():
            raise Permanent(Code.INPUT, f"{path} exists", expected="a new file", got="one with a key in it, perhaps")
    key = SigningKey.generate()
    durable.write(private, key.write(_password(password_file, confirm=True)))
    durable.write(public, key.public_pem(), mode=0o644)
    click.echo(f"{private}: signs images; keep it\n{public}: {key.public().fingerprint}")


@click.group()
def policy() -> None:
    """The documents that say which images are admitted, and as which processes."""


@policy.command()
@click.argument("repository", metavar="HOST/REPO")
@click.option("--key", "public_key", type=_FILE, required=True, help="The public key that signs its images, PEM.")
@click.option("--unencrypted", is_flag=True, help="Admit layers that anyone can read.")
@_policy_folder
def admit(repository: str, public_key: Path, unencrypted: bool, policies: Path) -> None:
    """Admit the images of HOST/REPO that the owner of a key signed, each as its own process."""
    pem = public_key.read_bytes()
    fingerprint = PublicKey.parse(pem).fingerprint
    name = parse_name(repository).repository
    PolicyFolder(policies).admit(name, pem, unencrypted=unencrypted)
    click.echo(f"{name}: admitted when signed by {fingerprint}")


@policy.command("seal-output")
@click.argument("repository", metavar="HOST/REPO")
@click.option("--for", "keys", type=_FILE, required=True, multiple=True, metavar="FILE", help="Who reads it: a JWK.")
@_policy_folder
def seal_output(repository: str, keys: tuple[Path, ...], policies: Path) -> None:
    """Seal what the containers of HOST/REPO write, so that the host's logs hold records that these keys open."""
    recipients = [read_recipient(path) for path in keys]
    name = parse_name(repository).repository
    PolicyFolder(policies).seal_output(name, recipients)
    click.echo(f"{name}: output sealed for {', '.join(each.thumbprint for each in recipients)}")


@policy.command()
@_policy_folder
def check(policies: Path) -> None:
    """Read both documents as an enclave will, and tell their ids."""
    image, launch = PolicyFolder(policies).check()
    click.echo(f"image policy {image.policy_id}: {len(image.scopes)} scopes")
    click.echo(f"launch policy {launch.policy_id}: {len(launch.rules)} rules, {len(launch.secrets)} secrets")


@policy.command()
@_kbs
@_kbs_ca
@_admin_key
@_policy_folder
def put(kbs: str, kbs_ca: Path, admin_key: Path, policies: Path) -> None:
    """Store both documents at the key broker: every launch from now on is judged by them."""
    with contextlib.closing(AdminClient(kbs, kbs_ca.read_text(), admin_key.read_bytes())) as broker:
        PolicyFolder(policies).put(broker)
    click.echo("both policies: replaced")


def _password(file: Path | None, *, confirm: bool = False) -> bytes:
    if file is not None:
        return file.read_bytes().rstrip(b"\r\n")
    answer: str = click.prompt("Password of the signing key", hide_input=True, confirmation_prompt=confirm, default="")
    return answer.encode()


def _registry(reference: Reference, ca: Path | None, auth: Path | None) -> Registry:
    credentials = find_credentials(auth.read_bytes(), reference) if auth else None
    return Registry(ca_pem=ca.read_text() if ca else None, credentials=credentials)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Take note of bytes; draw a bar on a terminal once it has taken a while."""
    bar = Progress(
        TextColumn("encrypting"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("encrypting", total=total)
    begun, started = time.monotonic(), False

    def advance(count: int) -> None:
        nonlocal started
        bar.advance(task, count)
        if not started and sys.stderr.isatty() and time.monotonic() - begun > _PATIENCE_SECONDS:
            started = True
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()
