"""The image policy as a document: what is read, which rule is chosen, and that divergent readings refuse."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from orchestrator.faults import Code, Permanent
from tests.simulators import oci
from workers.enclave.image.policy import ImagePolicy, Limits, SigstoreSigned, scopes_of
from workers.enclave.image.reference import parse_reference

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = oci.public_pem(KEY)
REJECT = [{"type": "reject"}]


def parse(*requirements: dict[str, object], **members: object) -> ImagePolicy:
    return ImagePolicy.parse(json.dumps({"default": list(requirements) or REJECT} | members).encode())


def signed(**members: object) -> dict[str, object]:
    return {"type": "sigstoreSigned"} | members


def test_the_scopes_of_an_image_are_those_of_containers_policy() -> None:
    assert scopes_of(parse_reference("r.shop.example:8443/a/b:v1")) == (
        "r.shop.example:8443/a/b:v1",
        "r.shop.example:8443/a/b",
        "r.shop.example:8443/a",
        "r.shop.example:8443",
        "*.shop.example",
        "*.example",
        "",
    )


def test_the_most_particular_rule_wins() -> None:
    accept = [{"type": "insecureAcceptAnything"}]
    docker = {"r.example/a/b": accept, "r.example/a": REJECT, "*.example": accept, "": REJECT}
    policy = parse(transports={"docker": docker, "docker-daemon": {"": accept}})
    chosen = {
        name: policy._rule(parse_reference(name))[0] for name in ("r.example/a/b", "r.example/a/c", "x.example/a")
    }
    assert chosen == {
        "r.example/a/b": "docker r.example/a/b",
        "r.example/a/c": "docker r.example/a",
        "x.example/a": "docker *.example",
    }
    assert policy._rule(parse_reference("redis"))[0] == "docker default"


def test_a_key_is_read_as_pem_and_as_base64_of_pem() -> None:
    raw, encoded = parse(signed(keyData=PEM)), parse(signed(keyData=base64.b64encode(PEM.encode()).decode()))
    assert raw.default == encoded.default
    assert isinstance(raw.default[0], SigstoreSigned)
    assert raw.default[0].identity.kind == "matchRepository"


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()])
def test_rsa_and_ed25519_keys_are_read(key: oci.SigningKey) -> None:
    assert parse(signed(keyData=oci.public_pem(key)))


def test_a_key_may_lie_at_the_broker() -> None:
    requirement = parse(signed(keyPath="kbs:///default/cosign/pub")).default[0]
    assert isinstance(requirement, SigstoreSigned)
    assert requirement.keys == ("kbs:///default/cosign/pub",)


def test_our_member_says_what_may_be_unencrypted_and_how_big() -> None:
    ours = {"unencrypted": ["r.example/public"], "limits": {"layer_bytes": 1000, "layers": 3}}
    policy = parse(**{"enclave-cc": ours})
    assert policy.admits_unencrypted(parse_reference("r.example/public/app"))
    assert not policy.admits_unencrypted(parse_reference("r.example/publicity"))
    assert policy.limits == Limits(layers=3, layer_bytes=1000)


def test_by_default_nothing_may_be_unencrypted() -> None:
    assert not parse({"type": "insecureAcceptAnything"}).admits_unencrypted(parse_reference("redis"))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({}, id="no-default"),
        pytest.param({"default": []}, id="empty-list"),
        pytest.param({"default": REJECT, "transports": {"docker": {"r.example": []}}}, id="empty-list-in-a-scope"),
        pytest.param({"default": REJECT, "transports": {"atomic": {"": []}}}, id="empty-list-in-another-transport"),
        pytest.param({"default": REJECT, "Default": REJECT}, id="unknown-member"),
        pytest.param({"default": [{"type": "acceptAnything"}]}, id="unknown-requirement"),
        pytest.param({"default": [{"type": "reject", "because": "x"}]}, id="unknown-member-of-a-requirement"),
        pytest.param({"default": [signed()]}, id="no-key"),
        pytest.param({"default": [signed(keyData=PEM, keyPath="kbs:///a/b/c")]}, id="two-keys"),
        pytest.param({"default": [signed(keyDatas=[])]}, id="no-keys"),
        pytest.param({"default": [signed(keyData="AAAA")]}, id="key-no-key"),
        pytest.param({"default": [signed(keyPath="/etc/cosign.pub")]}, id="key-at-the-host"),
        pytest.param({"default": [signed(keyPath="file:///etc/cosign.pub")]}, id="key-at-the-host-by-url"),
        pytest.param({"default": [signed(keyData=PEM, rekorPublicKeyData="AAAA")]}, id="rekor"),
        pytest.param({"default": [signed(fulcio={})]}, id="fulcio"),
        pytest.param({"default": [signed(keyData=PEM, signedIdentity={"type": "any"})]}, id="unknown-identity"),
        pytest.param({"default": REJECT, "enclave-cc": {"unencripted": []}}, id="misspelt-member-of-ours"),
        pytest.param({"default": REJECT, "enclave-cc": {"limits": {"layer_bytes": 0}}}, id="no-bytes"),
        pytest.param(
            {"default": [signed(keyData=oci.public_pem(ec.generate_private_key(ec.SECP384R1())))]}, id="another-curve"
        ),
        pytest.param(
            {"default": [signed(keyData=oci.public_pem(rsa.generate_private_key(65537, 1024)))]}, id="short-rsa"
        ),
    ],
)
def test_a_policy_that_could_admit_by_mistake_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(Permanent) as refused:
        ImagePolicy.parse(json.dumps(document).encode())
    assert refused.value.code is Code.SIGNATURE_POLICY


def test_the_policys_id_is_the_hash_of_its_bytes() -> None:
    raw = json.dumps({"default": REJECT}).encode()
    assert ImagePolicy.parse(raw).policy_id == oci.digest(raw)
