"""What cosign and containers/image made is read as they meant it, and one changed byte is not."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from deploy.publish.cosign_key import SigningKey
from deploy.publish.sign import signature_payload
from orchestrator.faults import Code, Permanent
from workers.enclave.image.identity import DEFAULT_IDENTITY
from workers.enclave.image.reference import parse_name, parse_reference
from workers.enclave.image.registry import Registry
from workers.enclave.image.signature import PublicKey, Signature, Subject, verify_signature

VECTORS = Path(__file__).resolve().parents[3] / "vectors/cosign"
NAMES = ["cosign-2.5.0", "containers-image", "containers-image-with-tag"]


def read(name: str) -> tuple[Signature, PublicKey, Subject]:
    payload = (VECTORS / f"{name}.payload").read_bytes()
    critical = json.loads(payload)["critical"]
    digest = critical["image"]["docker-manifest-digest"]
    reference = parse_name(critical["identity"]["docker-reference"]).pinned(digest)
    signature = Signature(payload, base64.b64decode((VECTORS / f"{name}.sig").read_text()))
    key = PublicKey.parse((VECTORS / f"{name}.pub").read_bytes())
    return signature, key, Subject(reference, (digest,), Registry())


@pytest.mark.parametrize("name", NAMES)
def test_a_signature_of_a_peer_is_good(name: str) -> None:
    signature, key, subject = read(name)
    verify_signature(signature, key, subject, DEFAULT_IDENTITY)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_signature_over_one_changed_byte_is_wrong(name: str) -> None:
    signature, key, subject = read(name)
    changed = Signature(signature.payload.replace(b"sha256:", b"sha257:"), signature.raw)
    with pytest.raises(Permanent) as refused:
        verify_signature(changed, key, subject, DEFAULT_IDENTITY)
    assert refused.value.code is Code.SIGNATURE_WRONG


def test_a_key_file_of_cosign_opens_and_is_the_one_it_signed_with() -> None:
    key = SigningKey.read((VECTORS / "cosign-2.5.0.key").read_bytes(), b"pw123")
    assert key.public_pem() == (VECTORS / "cosign-2.5.0.pub").read_bytes()


def test_our_payload_is_cosigns_byte_for_byte() -> None:
    payload = (VECTORS / "cosign-2.5.0.payload").read_bytes()
    critical = json.loads(payload)["critical"]
    reference = parse_reference(critical["identity"]["docker-reference"] + ":v1")
    assert signature_payload(reference, critical["image"]["docker-manifest-digest"]) == payload
