"""Making an owner: an authority, what it certifies, an admin key, default policies and the broker's configuration.

The directory is a person's, not the broker's: the broker needs neither `ca.key` nor `admin.key`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.kbs import durable
from deploy.kbs.admin import ISSUER
from deploy.kbs.certificates import Authority, private_pem
from deploy.kbs.config import parse_address
from deploy.kbs.state import POLICIES, PolicyId
from orchestrator.faults import Code, Permanent

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CONFIG: Final = "kbs.toml"
CA_CERTIFICATE: Final = "ca.pem"
ADMIN_KEY: Final = "admin.key"
_STATE: Final = "state"
_LOCAL_NAMES: Final = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Made:
    """One file that was made, and what it is for."""

    path: Path
    purpose: str


def create(
    directory: Path,
    *,
    listen: str = "127.0.0.1:8443",
    names: Iterable[str] = (),
    simulated_roots: Iterable[tuple[str, Path, Path]] = (),
) -> list[Made]:
    """Make an owner in `directory`, which must be missing or empty (`Permanent(INPUT)`), mode 0700.

    `names` are further DNS names and addresses of the broker; `simulated_roots` are (name, root DER, collateral), which
    need not exist before the broker starts. Without any, no hardware at all is trusted: edit the configuration.
    """
    if directory.exists() and any(directory.iterdir()):
        raise Permanent(Code.INPUT, "there is already something here", expected="a new directory", got=str(directory))
    parse_address(listen)
    durable.make_directory(directory)
    authority = Authority()
    tls, token = authority.tls_server(dict.fromkeys((*_LOCAL_NAMES, *names))), authority.token_signer()
    admin = Ed25519PrivateKey.generate()
    made = (
        ("ca.key", authority.credential.key, "the owner's authority; move it to a safe place, the broker needs it not"),
        (CA_CERTIFICATE, authority.credential.certificate, "its certificate: goes into the init-data"),
        ("tls.key", tls.key, "the broker's TLS key"),
        ("tls.pem", tls.certificate, "its certificate"),
        ("token.key", token.key, "signs attestation tokens"),
        ("token.pem", token.certificate, "its certificate"),
        (ADMIN_KEY, private_pem(admin), "signs admin commands"),
        ("admin.pem", _public_pem(admin), "its public half, for the broker"),
        *((f"{_STATE}/{POLICIES}/{policy}.rego", default_policy(policy), "default policy") for policy in PolicyId),
        (CONFIG, _config(listen, simulated_roots).encode(), "the broker's configuration"),
    )
    for name, content, _purpose in made:
        path = directory / name
        durable.make_directory(path.parent)
        durable.write(path, content)
    return [Made(directory / name, purpose) for name, _content, purpose in made]


def put_first_policies(policies: Path, state: Path) -> list[str]:
    """For a broker whose state begins empty, elsewhere than its owner's directory. Returns the files that it made.

    A policy that is there was set later by the owner, and stays. Raises Permanent(NOT_FOUND) for one that nobody gave.
    """
    made = []
    for name in (f"{policy}.rego" for policy in PolicyId):
        target = state / POLICIES / name
        if target.exists():
            continue
        try:
            content = (policies / name).read_bytes()
        except OSError as error:
            raise Permanent(
                Code.NOT_FOUND, "a policy is missing", expected=str(policies / name), got=type(error).__name__
            ) from error
        durable.make_directory(target.parent)
        durable.write(target, content)
        made.append(name)
    return made


def default_policy(policy: PolicyId) -> bytes:
    """The policy that this package ships."""
    return resources.files("deploy.kbs").joinpath("policies", f"{policy}.rego").read_bytes()


def _config(listen: str, simulated_roots: Iterable[tuple[str, Path, Path]]) -> str:
    # A JSON string is a TOML basic string as well.
    text = f"""\
# The key broker's configuration. Paths are relative to this file.
listen = {json.dumps(listen)}
state = {json.dumps(_STATE)}
session_minutes = 5

[tls]
certificate = "tls.pem"
key = "tls.key"

[token]
certificate = "token.pem"
key = "token.key"
ca = {json.dumps(CA_CERTIFICATE)}
minutes = 5

[admin]
public_key = "admin.pem"
issuer = {json.dumps(ISSUER)}

[sgx]
# Genuine platforms: a folder of Intel's collateral, one <FMSPC>.json each.
# intel_collateral = "collateral"
"""
    for name, root, collateral in simulated_roots:
        text += f"""
# Not hardware. The policy must allow it: enclave-cc kbs reference-value allow_simulated true
[[sgx.simulated_roots]]
name = {json.dumps(name)}
root = {json.dumps(str(root))}
collateral = {json.dumps(str(collateral))}
"""
    return text


def _public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
