"""The launch policy as a document: every mistake refuses it whole."""

from __future__ import annotations

import json

import pytest
from jwcrypto.jwk import JWK

from orchestrator.faults import Code, Permanent
from tests.simulators.oci import digest
from workers.enclave.launch_policy.document import LaunchPolicy

MEASUREMENT = "cd" * 32
REPOSITORY = "registry.example/shop/app"


def parse(**members: object) -> LaunchPolicy:
    document = {"version": 1, "boot_measurements": [MEASUREMENT], "rules": []} | members
    return LaunchPolicy.parse(
        json.dumps({name: value for name, value in document.items() if value is not None}).encode()
    )


def rule(**members: object) -> dict[str, object]:
    return {"rules": [{"image": REPOSITORY} | members]}


def secret(**members: object) -> dict[str, object]:
    whole = {"image": REPOSITORY, "uri": "kbs:///default/secret/db", "path": "/run/secrets/db"} | members
    return {"secrets": [{name: value for name, value in whole.items() if value is not None}]}


P256 = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}
"""RFC 7517, appendix A.1."""

X25519 = {"kty": "OKP", "crv": "X25519", "x": "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}
"""RFC 8037, appendix A.6."""


def sealed_for(*keys: object) -> dict[str, object]:
    return rule(name="web", output={"sealed_for": list(keys)})


def test_the_readers_of_an_output_are_named_by_their_thumbprints() -> None:
    read = parse(**sealed_for(P256 | {"kid": "mine", "use": "enc", "alg": "ECDH-ES"}, X25519)).recipients_of("web")
    # The first is the thumbprint of RFC 7517's key, as jwcrypto says it too.
    assert [recipient.thumbprint for recipient in read] == [
        JWK(**P256).thumbprint(),
        JWK(**X25519).thumbprint(),
    ]
    assert parse(**rule(name="web")).recipients_of("web") == ()


def test_the_smallest_policy_is_read() -> None:
    assert parse().boot_measurements == frozenset({MEASUREMENT})
    assert parse().rules == ()


def test_its_id_is_the_hash_of_its_bytes() -> None:
    raw = json.dumps({"version": 1, "boot_measurements": [], "rules": []}).encode()
    assert LaunchPolicy.parse(raw).policy_id == digest(raw)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"version": 2}, id="version"),
        pytest.param({"version": None}, id="no-version"),
        pytest.param({"boot_measurements": None}, id="no-measurements"),
        pytest.param({"boot_measurements": [MEASUREMENT.upper()]}, id="upper-case-measurement"),
        pytest.param({"boot_measurements": ["cd"]}, id="short-measurement"),
        pytest.param({"rules": None}, id="no-rules"),
        pytest.param({"rule": []}, id="misspelt-member"),
        pytest.param({"rules": [{}]}, id="rule-without-image"),
        pytest.param(rule(image=f"{REPOSITORY}:v1"), id="rule-by-tag"),
        pytest.param(rule(image="Not A Name"), id="rule-for-no-name"),
        pytest.param(rule(argz=[]), id="misspelt-member-of-a-rule"),
        pytest.param(sealed_for(), id="output-sealed-for-nobody"),
        pytest.param(sealed_for(X25519, X25519), id="output-sealed-twice-for-one"),
        pytest.param(sealed_for(P256 | {"d": P256["x"]}), id="output-for-a-private-key"),
        pytest.param(sealed_for(P256 | {"y": P256["x"]}), id="output-for-no-point"),
        pytest.param(sealed_for(X25519 | {"crv": "Ed25519"}), id="output-for-a-signing-key"),
        pytest.param(sealed_for(X25519 | {"y": P256["y"]}), id="output-for-a-key-with-two-coordinates"),
        pytest.param(sealed_for(X25519 | {"x": X25519["x"] + "="}), id="output-for-a-key-in-another-form"),
        pytest.param(sealed_for("key"), id="output-for-a-text"),
        pytest.param(sealed_for(*[X25519] * 17), id="output-for-too-many"),
        pytest.param(rule(output=[X25519]), id="output-without-member"),
        pytest.param(rule(output={"sealed_for": [X25519], "also": 1}), id="output-and-more"),
        pytest.param(
            {"rules": [{"image": REPOSITORY, "name": "a", "output": {"sealed_for": [X25519]}}] * 2},
            id="two-rules-of-one-name-with-output",
        ),
        pytest.param(rule(args=[]), id="no-arguments"),
        pytest.param(rule(args={"from_image": False}), id="not-from-image"),
        pytest.param(rule(args={"from_image": True, "also": 1}), id="from-image-and-more"),
        pytest.param(rule(args=["/app", {"pattern": "("}]), id="pattern-no-expression"),
        pytest.param(rule(args=["/app", {"pattern": "a", "any": True}]), id="pattern-and-any"),
        pytest.param(rule(args=["/app", {"any": False}]), id="any-false"),
        pytest.param(rule(args=["/app", {"glob": "*"}]), id="unknown-matcher"),
        pytest.param(rule(args=[{"repeat": "x"}, "/app"]), id="repeat-not-last"),
        pytest.param(rule(env=[{"name": "A"}]), id="variable-without-value"),
        pytest.param(rule(env={"A": "1"}), id="variables-as-object"),
        pytest.param(rule(users=["a b"]), id="user-no-user"),
        pytest.param(rule(capabilities=["SYS_ADMIN"]), id="capability-without-prefix"),
        pytest.param(rule(rlimits=["NOFILE"]), id="limit-without-prefix"),
        pytest.param(rule(terminal="yes"), id="terminal-text"),
        pytest.param(rule(mounts=[{"destination": "/a", "readonly": True}]), id="misspelt-member-of-a-mount"),
        pytest.param(rule(mounts=[{"destination": "/a", "key": "kbs:///default/v/a"}]), id="key-without-volume"),
        pytest.param(
            rule(mounts=[{"destination": "/a", "volume": "a", "sha256": "ab" * 32}]), id="volume-with-a-digest"
        ),
        pytest.param(rule(mounts=[{"destination": "/a", "volume": "../a"}]), id="volume-with-a-path-for-a-name"),
        pytest.param(rule(mounts=[{"destination": "/a", "sha256": "AB" * 32}]), id="digest-in-upper-case"),
        pytest.param(secret(path=None), id="secret-nowhere"),
        pytest.param(secret(env="DB"), id="secret-twice"),
        pytest.param(secret(path="run/secrets"), id="secret-at-a-relative-path"),
        pytest.param(secret(path="/run/../db"), id="secret-climbs"),
        pytest.param(secret(path="/dev/shm/db"), id="secret-in-dev"),
        pytest.param(secret(path="/"), id="secret-at-the-root"),
        pytest.param(secret(path=None, env="A-B"), id="secret-in-no-variable"),
        pytest.param(secret(uri="https://example/db"), id="secret-from-elsewhere"),
        pytest.param(secret(uri="kbs:///a/b"), id="secret-without-tag"),
        pytest.param(secret(mode="400"), id="mode-without-zero"),
        pytest.param(secret(mode="04000"), id="setuid-secret"),
    ],
)
def test_a_mistake_refuses_the_document(members: dict[str, object]) -> None:
    with pytest.raises(Permanent) as refused:
        parse(**members)
    assert refused.value.code is Code.CONFIG_POLICY


def test_a_mistake_is_told_by_its_place() -> None:
    with pytest.raises(Permanent) as refused:
        parse(**rule(argz=[]))
    assert "$.rules[0]" in refused.value.diagnosis.message
    assert "'argz'" in refused.value.diagnosis.got
