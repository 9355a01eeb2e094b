"""The owner's calls: only with the owner's key, and never half done."""

from __future__ import annotations

import base64
import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from deploy.kbs.admin import admin_token
from deploy.kbs.api import Call
from deploy.kbs.certificates import private_pem
from deploy.kbs.server import broker
from schemas.strict_json import base64url
from tests.simulators.kbs_caller import Caller, detail, variant

CALLS = [
    ("POST", "resource/default/key/1", "AdminAuthInitialization"),
    ("DELETE", "resource/default/key/1", "AdminAuthInitialization"),
    ("POST", "attestation-policy", "AdminAuthAccess"),
    ("POST", "resource-policy", "AdminAuthAccess"),
    ("GET", "resource-policy", "AdminAuthAccess"),
    ("POST", "reference-value", "AdminAuthAccess"),
    ("GET", "reference-value/x", "AdminAuthAccess"),
]


def jwt(key, header, claims):
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{signed}.{base64url(key.sign(signed.encode()))}"


@pytest.fixture
def admin_key(caller):
    return load_pem_private_key(caller.admin_key, None)


@pytest.mark.parametrize(("method", "path", "expected"), CALLS)
def test_a_stranger_changes_and_reads_nothing(caller, method, path, expected):
    stranger = admin_token(private_pem(Ed25519PrivateKey.generate()))
    for authorization in (None, "", f"Bearer {stranger}", f"Basic {stranger}"):
        answer = caller.send(method, path, b"{}", authorization=authorization)
        assert (answer.status, variant(answer)) == (401, expected)
        assert "Admin access denied" in detail(answer)


@pytest.mark.parametrize(
    "change",
    [
        {"role": "user"},
        {"role": None},
        {"iss": "somebody"},
        {"iss": None},
        {"exp": 1},
        {"exp": None},
        {"exp": "2099-01-01"},
        {"exp": True},
    ],
)
def test_a_token_that_lacks_a_claim_is_refused(caller, admin_key, change):
    claims = {"iss": "enclave-cc", "role": "admin", "exp": int(time.time()) + 60} | change
    claims = {name: value for name, value in claims.items() if value is not None}
    authorization = f"Bearer {jwt(admin_key, {'typ': 'JWT', 'alg': 'EdDSA'}, claims)}"
    assert caller.send("GET", "resource-policy", authorization=authorization).status == 401


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "ES256"}, {}, {"alg": ["EdDSA"]}])
def test_a_token_of_another_algorithm_is_refused(caller, admin_key, header):
    claims = {"iss": "enclave-cc", "role": "admin", "exp": int(time.time()) + 60}
    assert caller.send("GET", "resource-policy", authorization=f"Bearer {jwt(admin_key, header, claims)}").status == 401


def test_an_altered_token_is_refused(caller):
    head, payload, signature = admin_token(caller.admin_key).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    longer = base64url(json.dumps(claims | {"exp": claims["exp"] + 3600}).encode())
    answer = caller.send("GET", "resource-policy", authorization=f"Bearer {head}.{longer}.{signature}")
    assert "signature" in detail(answer)


def test_the_policies_are_listed_as_trustee_does(caller):
    assert json.loads(caller.owner("GET", "resource-policy").body) == ["resource-policy"]


def test_a_reference_value_is_any_json_and_survives_the_broker(caller, config):
    for name, value in (("list", ["a", "b"]), ("flag", True), ("number", 7), ("nested", {"a": [None]})):
        caller.reference(name, value)
        assert json.loads(caller.owner("GET", f"reference-value/{name}").body) == value
    caller.reference("list", ["c"])
    again = Caller(broker(config), caller.admin_key)
    assert json.loads(again.owner("GET", "reference-value/list").body) == ["c"]
    assert json.loads(again.owner("GET", "reference-value/flag").body) is True
    assert variant(again.owner("GET", "reference-value/absent")) == "RvpsError"


def message(**changes):
    payload = base64.b64encode(b'{"a": 1}').decode()
    return json.dumps({"version": "0.1.0", "type": "sample", "payload": payload} | changes).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        message(version="0.2.0"),
        message(type="swid"),
        message(payload="e30"),
        message(payload=base64.b64encode(b"[]").decode()),
        message(payload=base64.b64encode(b'{"a b": 1}').decode()),
        message(payload=base64.b64encode(b'{"a": 1, "a": 2}').decode()),
        message(payload=base64.b64encode(b'{"a": NaN}').decode()),
        message(payload=base64.b64encode(json.dumps({f"n{i}": 1 for i in range(1025)}).encode()).decode()),
        message(signature="x"),
    ],
)
def test_a_message_that_is_none_registers_nothing(caller, config, body):
    answer = caller.owner("POST", "reference-value", body)
    assert (answer.status, variant(answer)) == (401, "RvpsError")
    assert not (config.state / "reference-values.json").exists()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"policy": 1}',
        b'{"policy": "not base64url!"}',
        b'{"policy": "cGFja2FnZSA="}',
        json.dumps({"policy": base64url(b"\xff\xfe")}).encode(),
        json.dumps({"policy": base64url(b"package policy\nallow {")}).encode(),
    ],
)
def test_a_policy_that_cannot_be_read_changes_nothing(caller, config, body):
    before = (config.state / "policies/resource-policy.rego").read_bytes()
    answer = caller.owner("POST", "resource-policy", body)
    assert (answer.status, variant(answer)) == (401, "ParsePolicyError")
    assert (config.state / "policies/resource-policy.rego").read_bytes() == before


def test_a_policy_that_nothing_would_evaluate_is_not_taken(caller):
    body = {"type": "rego", "policy_id": "default", "policy": base64url(b"package policy\n")}
    answer = caller.owner("POST", "attestation-policy", json.dumps(body).encode())
    assert (answer.status, variant(answer)) == (401, "AttestationError")
    assert "default_cpu" in detail(answer)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "auth"), ("GET", "attest"), ("PUT", "resource/a/b/c"), ("GET", "attestation-policy")]
    + [("DELETE", "reference-value/x"), ("GET", ""), ("GET", "nebula-ca/x"), ("POST", "Resource/a/b/c")],
)
def test_there_is_no_other_call(caller, method, path):
    answer = caller.owner(method, path)
    assert (answer.status, variant(answer)) == (404, "PluginNotFound")


def test_a_path_of_another_prefix_is_none(caller):
    answer = caller.api.answer(Call("GET", "/kbs/v1/auth", "", b"", None, None))
    assert (answer.status, variant(answer)) == (404, "InvalidRequestPath")
