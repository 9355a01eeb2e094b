"""The launch policy as a document: every mistake refuses it whole."""

from __future__ import annotations

import json

import pytest

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
