"""The key of a layer: which annotations are believed, and which are refused though peers let them pass."""

from __future__ import annotations

import json
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.faults import Code, Permanent
from tests.simulators import oci
from workers.enclave.image.manifest import Descriptor
from workers.enclave.image.ocicrypt import LayerKey, unwrap_layer_key

KEK = bytes(range(32))
KID = "kbs:///default/image-key/app"
BODY = b"a layer's bytes" * 100


def described(annotations: dict[str, str]) -> Descriptor:
    return Descriptor(oci.TAR + "+encrypted", oci.digest(BODY), len(BODY), annotations)


def annotations(**changes: str | None) -> dict[str, str]:
    _, made = oci.encrypted_layer(BODY, KEK, KID)
    made |= {name: value for name, value in changes.items() if value is not None}
    return made


def packet(kek: bytes = KEK, **changes: object) -> str:
    """A key packet with some members changed; `private` changes what is wrapped."""
    private = {
        "symkey": oci.b64(bytes(32)),
        "digest": oci.digest(BODY),
        "cipheroptions": {"nonce": oci.b64(bytes(16))},
    } | dict(changes.pop("private", {}))
    iv = os.urandom(12)
    document = {
        "kid": KID,
        "wrapped_data": oci.b64(AESGCM(kek).encrypt(iv, json.dumps(private).encode(), None)),
        "iv": oci.b64(iv),
        "wrap_type": "A256GCM",
    } | changes
    return oci.b64(json.dumps({name: value for name, value in document.items() if value is not None}).encode())


def public(**changes: object) -> str:
    document = {"cipher": "AES_256_CTR_HMAC_SHA256", "hmac": oci.b64(bytes(32)), "cipheroptions": {}} | changes
    return oci.b64(json.dumps({name: value for name, value in document.items() if value is not None}).encode())


def unwrap(made: dict[str, str], keys: dict[str, bytes] | None = None) -> LayerKey:
    def get(uri: str) -> bytes:
        found = (keys if keys is not None else {KID: KEK}).get(uri)
        if found is None:
            raise Permanent(Code.KEY_DENIED, f"the broker denies {uri}")
        return found

    return unwrap_layer_key(described(made), get)


def test_a_packet_of_version_1_opens() -> None:
    key = unwrap(annotations())
    assert (key.kid, key.digest) == (KID, oci.digest(BODY))
    assert (len(key.symmetric), len(key.nonce), len(key.hmac)) == (32, 16, 32)


def test_a_packet_of_version_2_opens() -> None:
    made = packet(version="0.1.0", provider="kbs", provider_settings={}, annotations={"any": "thing"})
    assert unwrap(annotations() | {oci.KEYS: made}).kid == KID


def test_the_provider_may_have_any_name() -> None:
    made = annotations()
    made[oci.KEYS.replace("attestation-agent", "somebody")] = made.pop(oci.KEYS)
    assert unwrap(made).kid == KID


def test_public_options_without_cipher_options_are_the_same_as_empty_ones() -> None:
    assert unwrap(annotations() | {oci.PUBOPTS: public(cipheroptions=None)}).kid == KID


def test_of_several_packets_the_first_whose_key_is_given_opens() -> None:
    other = packet(bytes(32), kid="kbs:///default/image-key/other")
    assert unwrap(annotations() | {oci.KEYS: f"{other},{packet()}"}).kid == KID


def test_a_denied_key_is_the_brokers_fault_not_ours() -> None:
    with pytest.raises(Permanent) as refused:
        unwrap(annotations(), keys={})
    assert refused.value.code is Code.KEY_DENIED


@pytest.mark.parametrize("size", [0, 16, 31, 33, 44])
def test_a_key_that_is_not_32_bytes_is_malformed(size: int) -> None:
    with pytest.raises(Permanent) as refused:
        unwrap(annotations(), keys={KID: bytes(size)})
    assert refused.value.code is Code.KEY_MALFORMED
    assert refused.value.diagnosis.got == f"{size} bytes"


def test_another_key_does_not_open_the_packet() -> None:
    with pytest.raises(Permanent) as refused:
        unwrap(annotations(), keys={KID: b"k" * 32})
    assert refused.value.code is Code.KEY_WRONG
    assert "kkkk" not in refused.value.diagnostics()


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({oci.PUBOPTS: public(cipheroptions={"nonce": oci.b64(bytes(16))})}, id="nonce-in-public-options"),
        pytest.param({oci.PUBOPTS: public(cipher="AES_256_CTR")}, id="another-cipher"),
        pytest.param({oci.PUBOPTS: public(hmac=oci.b64(bytes(31)))}, id="short-hmac"),
        pytest.param({oci.PUBOPTS: public(hmac=None)}, id="no-hmac"),
        pytest.param({oci.PUBOPTS: "not base64!"}, id="public-options-no-base64"),
        pytest.param({oci.PUBOPTS: ""}, id="no-public-options"),
        pytest.param({oci.KEYS: packet(wrap_type="A256CTR")}, id="wrapping-without-integrity"),
        pytest.param({oci.KEYS: packet(wrap_type=None)}, id="no-wrapping"),
        pytest.param({oci.KEYS: packet(kid="/default/image-key/app")}, id="kid-no-uri"),
        pytest.param({oci.KEYS: packet(kid="kbs:///default/../app")}, id="kid-climbs"),
        pytest.param({oci.KEYS: packet(kid="kbs://evil.example/default/image-key/app")}, id="kid-names-a-broker"),
        pytest.param({oci.KEYS: packet(iv=oci.b64(bytes(16)))}, id="long-iv"),
        pytest.param({oci.KEYS: packet(version="0.2.0")}, id="unknown-version"),
        pytest.param({oci.KEYS: packet(provider="aliyun")}, id="another-provider"),
        pytest.param({oci.KEYS: packet(private={"symkey": oci.b64(bytes(16))})}, id="short-symmetric-key"),
        pytest.param({oci.KEYS: packet(private={"cipheroptions": {}})}, id="no-nonce"),
        pytest.param({oci.KEYS: packet(private={"digest": "sha256:x"})}, id="digest-no-digest"),
        pytest.param({oci.KEYS: ",".join([packet()] * 9)}, id="nine-packets"),
        pytest.param({oci.KEYS: packet() + ","}, id="empty-packet"),
        pytest.param({oci.KEYS.replace("attestation-agent", "second"): packet()}, id="two-providers"),
    ],
)
def test_what_could_be_read_in_two_ways_or_has_no_integrity_is_malformed(changed: dict[str, str]) -> None:
    with pytest.raises(Permanent) as refused:
        unwrap(annotations() | changed)
    assert refused.value.code is Code.IMAGE_MALFORMED


@pytest.mark.parametrize("scheme", ["jwe", "pkcs7", "pgp"])
def test_keys_that_would_have_to_rest_inside_the_enclave_are_refused(scheme: str) -> None:
    made = annotations()
    made["org.opencontainers.image.enc.keys." + scheme] = made.pop(oci.KEYS)
    with pytest.raises(Permanent) as refused:
        unwrap(made)
    assert refused.value.code is Code.IMAGE_MALFORMED
    assert refused.value.diagnosis.got == scheme
