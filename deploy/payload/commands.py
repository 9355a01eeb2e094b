"""`enclave-cc payload`: build, lock, images, inspect, verify, diff, sign, push.

Zone: owner. May import: `click`, `deploy.{payload,publish}`, `workers.{enclave.image,host.libos}`,
`orchestrator.faults`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from deploy.kbs import durable
from deploy.payload import control_plane, inputs, pushing, vouched
from deploy.payload.attached import Layout
from deploy.payload.contents import Contents, opened, verify_measurements
from deploy.payload.difference import differences
from deploy.payload.image import INPUTS, build_payload, list_inputs
from deploy.publish.cosign_key import SigningKey
from deploy.publish.references import now
from deploy.publish.references import sign as sign_references
from orchestrator.faults import Code, Permanent
from workers.enclave.image.credentials import find_credentials
from workers.enclave.image.identity import DEFAULT_IDENTITY, ExactRepository
from workers.enclave.image.reference import Reference, parse_name, parse_reference
from workers.enclave.image.registry import Registry
from workers.enclave.image.signature import PublicKey
from workers.host.libos.sim.measurement import measure_image

_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER: Final = click.Path(path_type=Path, file_okay=False)
_registry_ca = click.option("--registry-ca", type=_FILE, help="The registry's authority, PEM.")
_registry_auth = click.option("--registry-auth", type=_FILE, help="A docker authentication file.")


@click.group()
def payload() -> None:
    """What a node is given: measured bundles and the node's own software, as one image, the same bytes each time."""


@payload.command()
@click.argument("folder", type=_FOLDER)
@click.option("--unlocked", is_flag=True, help="Also from other inputs than a release's; each difference is told.")
def build(folder: Path, *, unlocked: bool) -> None:
    """Write the payload to FOLDER, an OCI layout; print its digest and what its bundles measure to.

    Refused unless every Debian package, Python distribution and tool is the one of the checked-in list.
    """
    built = build_payload(folder, locked=not unlocked)
    for departure in built.departures:
        click.echo(departure.line(), err=True)
    click.echo(f"payload    {built.version} {built.digest}")
    click.echo(f"index      {built.index}")
    for name, measurement in sorted(built.measurements.items()):
        click.echo(f"{name:<10} {measurement}")


@payload.command()
@click.argument("folder", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="The chart's values that name them, for `helm install -f`.")
def images(folder: Path, *, as_json: bool) -> None:
    """Write what the chart starts, to FOLDER/control-plane and FOLDER/bus, OCI layouts; print their digests."""
    built = control_plane.build_images(folder)
    if as_json:
        own, bus = ({"digest": image.digest} for image in built)
        click.echo(json.dumps({"image": own, "bus": {"image": bus}}, indent=1))
        return
    for image in built:
        click.echo(f"{image.name:<14} {image.version} {image.digest}")


@payload.command()
@click.option("--check", is_flag=True, help="Change nothing; end with 1 where a release could not be built here.")
def lock(*, check: bool) -> None:
    """Make what is installed here the inputs of a release, and tell each difference from those before."""
    there = list_inputs()
    before = inputs.parse(inputs.LOCK.read_bytes()) if inputs.LOCK.exists() else ()
    departed = tuple(inputs.departures(before, there, inputs.PINS.read_text()))
    for departure in departed:
        click.echo(departure.line())
    if check:
        click.get_current_context().exit(1 if departed else 0)
    unpinned = [departure for departure in departed if departure.code is Code.PAYLOAD_UNPINNED]
    inputs.refuse(unpinned)
    inputs.LOCK.write_bytes(inputs.render(there))
    click.echo(f"{inputs.LOCK}: {len(there)} inputs, {inputs.digest(there)}")


@payload.command()
@click.argument("name", metavar="PAYLOAD|BUNDLE")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@_registry_ca
@_registry_auth
def inspect(name: str, *, as_json: bool, registry_ca: Path | None, registry_auth: Path | None) -> None:
    """What a payload holds and measures to; or of one bundle's image, also the one process that it may be."""
    if Path(name).suffix == ".erofs":
        document = _bundle(Path(name))
    else:
        with _opened(name, registry_ca, registry_auth) as contents:
            document = _described(contents)
    if as_json:
        click.echo(json.dumps(document, indent=1))
        return
    for member, value in document.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for label, text in rows:
            click.echo(f"{member:<14} {f'{label} ' if label else ''}{text}")


@payload.command()
@click.argument("name", metavar="PAYLOAD")
@click.option("--key", type=_FILE, help="A public key, PEM: the payload must be signed with it.")
@click.option(
    "--signed-as", metavar="HOST/REPO", help="The name that was signed. [default: PAYLOAD's; of a layout, any]"
)
@_registry_ca
@_registry_auth
def verify(
    name: str, key: Path | None, signed_as: str | None, registry_ca: Path | None, registry_auth: Path | None
) -> None:
    """Check every file of PAYLOAD, measure its bundles again, and with --key the signature beside it.

    Signatures lie beside a payload in its registry, or in the layout that was signed or copied as a whole.
    """
    with _opened(name, registry_ca, registry_auth) as contents:
        click.echo(f"files         {len(contents.files)}, each as payload.json names it, and no other")
        verify_measurements(contents)
        for path, measurement in sorted(contents.measurements.items()):
            click.echo(f"measurement   {measurement}  {path}")
        if key is None:
            click.echo("signature     not asked for: --key")
            return
        public = PublicKey.parse(key.read_bytes())
        identity = ExactRepository(parse_name(signed_as).repository) if signed_as else None
        folder = vouched.layout_of(name)
        if folder is not None:
            layout = Layout(folder)
            with contextlib.closing(_registry(None, None, None)) as registry:
                vouched.signed_in(public, layout, registry, identity or vouched.AnyName())
            click.echo(f"signature     of {contents.digest}, by {public.fingerprint}")
            document = vouched.verified_references(public, contents, layout)
            click.echo(f"references    {f'signed {document.issued}' if document else 'none came along'}")
            return
        reference = _in_a_registry(name)
        with contextlib.closing(_registry(reference, registry_ca, registry_auth)) as registry:
            vouched.signed_by(public, reference, contents.digest, registry, identity or DEFAULT_IDENTITY)
        click.echo(f"signature     of {contents.digest}, by {public.fingerprint}")


@payload.command()
@click.argument("layout", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("name", metavar="HOST/REPO")
@click.option("--key", type=_FILE, required=True, help="The signing key, as `keygen` or cosign made it.")
@click.option("--key-password-file", type=_FILE, help="Its password. [default: asked for]")
@click.option(
    "--references", type=click.Path(path_type=Path, dir_okay=False), help="Write the reference values here too."
)
@click.option("--unlocked", is_flag=True, help="Also what was built from other inputs than a release's.")
def sign(
    layout: Path, name: str, key: Path, key_password_file: Path | None, references: Path | None, *, unlocked: bool
) -> None:
    """Sign the payload in LAYOUT as HOST/REPO, and what its bundles measure to; both stay with the layout.

    Key brokers take the measurements: enclave-cc kbs accept. Signing again later dates them anew.
    """
    held = Layout(layout)
    with _opened(str(layout), None, None) as contents:
        verify_measurements(contents)
        document = vouched.described(contents, held, now())
    release = inputs.digest(inputs.parse(inputs.LOCK.read_bytes()))
    if not unlocked and document.inputs != release:
        raise Permanent(
            Code.PAYLOAD_UNLISTED,
            "the payload was built from other inputs than a release's",
            expected=f"{INPUTS}={release}",
            got=f"{INPUTS}={document.inputs}",
            advice="build it without --unlocked, from the same commit",
        )
    signing_key = SigningKey.read(key.read_bytes(), _password(key_password_file))
    envelope = sign_references(document, signing_key)
    held.sign(parse_name(name), signing_key, envelope)
    if references is not None:
        durable.write(references, envelope, mode=0o644)
    click.echo(f"signature     of {contents.digest}, by {signing_key.public().fingerprint}")
    click.echo(f"references    signed {document.issued}{f': {references}' if references else ''}")


@payload.command()
@click.argument("one", metavar="PAYLOAD")
@click.argument("other", metavar="PAYLOAD")
@_registry_ca
@_registry_auth
def diff(one: str, other: str, registry_ca: Path | None, registry_auth: Path | None) -> None:
    """Which files differ, inside the bundles too, and what that does to the measurements. Exit 1 where any does."""
    with (
        _opened(one, registry_ca, registry_auth) as before,
        _opened(other, registry_ca, registry_auth) as after,
    ):
        lines = list(differences(before, after))
    click.echo("\n".join(lines) if lines else "no difference")
    click.get_current_context().exit(1 if lines else 0)


@payload.command()
@click.argument("layout", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("target", metavar="HOST/REPO:TAG")
@click.option("--key", type=_FILE, help="The signing key, as `keygen` or cosign made it.")
@click.option("--key-password-file", type=_FILE, help="Its password. [default: asked for]")
@_registry_ca
@_registry_auth
def push(
    layout: Path,
    target: str,
    key: Path | None,
    key_password_file: Path | None,
    registry_ca: Path | None,
    registry_auth: Path | None,
) -> None:
    """Push the payload in LAYOUT, and sign it; print the name that a node is given."""
    reference = parse_reference(target)
    signing_key = SigningKey.read(key.read_bytes(), _password(key_password_file)) if key else None
    with contextlib.closing(_registry(reference, registry_ca, registry_auth)) as registry:
        digest = pushing.push(layout, reference, registry, signing_key)
    click.echo(str(reference.pinned(digest)))


def _password(file: Path | None) -> bytes:
    if file is not None:
        return file.read_bytes().rstrip(b"\r\n")
    answer: str = click.prompt("Password of the signing key", hide_input=True, default="")
    return answer.encode()


@contextlib.contextmanager
def _opened(name: str, ca: Path | None, auth: Path | None) -> Iterator[Contents]:
    local = Path(name).exists() or name.startswith(("oci:", "oci-archive:"))
    reference = None if local else _in_a_registry(name)
    with contextlib.closing(_registry(reference, ca, auth)) as registry, opened(name, registry) as contents:
        yield contents


def _in_a_registry(name: str) -> Reference:
    if Path(name).exists() or name.startswith(("oci:", "oci-archive:")):
        raise Permanent(
            Code.INPUT,
            "a signature lies beside its payload in a registry",
            expected="HOST/REPO:TAG or HOST/REPO@DIGEST",
            got=name[:500],
        )
    return parse_reference(name.removeprefix("docker://"))


def _registry(reference: Reference | None, ca: Path | None, auth: Path | None) -> Registry:
    credentials = find_credentials(auth.read_bytes(), reference) if auth and reference else None
    return Registry(ca_pem=ca.read_text() if ca else None, credentials=credentials)


def _described(contents: Contents) -> dict[str, object]:
    return {
        "version": contents.version,
        "platform": contents.platform,
        "digest": contents.digest,
        "files": len(contents.files),
        "bytes": sum(listed.size for listed in contents.files.values()),
        "measurements": contents.measurements,
    }


def _bundle(image: Path) -> dict[str, object]:
    measured = measure_image(image)
    return {
        "image_sha256": measured.image_sha256,
        "mrenclave": measured.mrenclave.hex(),
        "entry": measured.entry.document(),
    }
