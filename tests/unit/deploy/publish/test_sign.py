"""Signatures beside an image in a real registry."""

from __future__ import annotations

from deploy.publish.cosign_key import SigningKey
from deploy.publish.push import RegistryWriter
from deploy.publish.sign import is_signed, sign
from workers.enclave.image.manifest import Manifest, parse_manifest
from workers.enclave.image.signature import signature_tag

DIGEST = "sha256:" + "ab" * 32


def signatures(owner) -> int:
    raw, _ = owner.publisher.registry.manifest(owner.target.tagged(signature_tag(DIGEST)))
    found = parse_manifest(raw)
    assert isinstance(found, Manifest)
    return len(found.layers)


def test_each_key_signs_once_and_keeps_the_others(owner) -> None:
    registry, target = owner.publisher.registry, owner.target
    writer = RegistryWriter(registry.transport, target)
    mine, other = SigningKey.generate(), SigningKey.generate()
    assert not is_signed(target, DIGEST, registry, mine)
    for key in (mine, other, mine, other):
        sign(target, DIGEST, registry, writer, key)
    assert is_signed(target, DIGEST, registry, mine)
    assert is_signed(target, DIGEST, registry, other)
    assert not is_signed(target, DIGEST, registry, SigningKey.generate())
    assert signatures(owner) == 2


def test_a_signature_for_another_digest_is_none_for_this(owner) -> None:
    registry, target, key = owner.publisher.registry, owner.target, SigningKey.generate()
    sign(target, DIGEST, registry, RegistryWriter(registry.transport, target), key)
    assert not is_signed(target, "sha256:" + "cd" * 32, registry, key)
