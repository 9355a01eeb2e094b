"""`enclave-cc output-key`: a key pair for sealed output. The private half stays with whoever shall read.

Zone: owner. May import: `click`, `deploy.kbs.durable`, `orchestrator.{faults,output}`, `schemas`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from deploy.kbs import durable
from orchestrator.faults import Code, Permanent
from orchestrator.output.recipient import RecipientKey
from schemas.recipients import Recipient
from schemas.strict_json import Malformed, parse_object

_LONGEST_KEY: Final = 64 * 1024


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("output.jwk"))
@click.option("--curve", type=click.Choice(["X25519", "P-256"]), default="X25519", show_default=True)
def output_key(file: Path, curve: str) -> None:
    """Make a key that opens sealed output: FILE, the private key, and FILE.pub, which a launch policy names."""
    public = file.with_name(f"{file.name}.pub")
    for path in (file, public):
        if path.exists():
            raise Permanent(Code.INPUT, f"{path} exists", expected="a new file", got="one with a key in it, perhaps")
    key = RecipientKey.generate(curve)
    durable.write(file, key.write())
    durable.write(public, key.public.encode(), mode=0o644)
    click.echo(f"{file}: opens sealed output; keep it\n{public}: {key.public.thumbprint}")


def read_recipient(path: Path) -> Recipient:
    """A public key from a file. Raises Permanent(INPUT)."""
    try:
        return Recipient.parse(parse_object(path.read_bytes()[:_LONGEST_KEY]))
    except Malformed as malformed:
        raise Permanent(
            Code.INPUT,
            f"{path} is no public key",
            expected="a public key (JWK) on X25519 or P-256",
            got=str(malformed),
            advice="give the .pub file that `enclave-cc output-key` made: a policy holds no private key",
        ) from None
