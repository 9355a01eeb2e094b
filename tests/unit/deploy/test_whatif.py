"""Another policy before the recorded evidence: judged by the enforcing code, as far as the history holds enough."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.kbs.owner import default_policy
from deploy.kbs.state import PolicyId
from deploy.publish.cosign_key import SigningKey
from deploy.whatif import judge_of
from orchestrator import events
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch
from orchestrator.lifecycle import Zone
from orchestrator.replay.whatif import Outcome
from tests.simulators import history
from tests.simulators.broker import Enclave
from tests.simulators.history import APP, History
from workers.host.libos.sim.pki import SimulatedPki

OWNER = SigningKey.generate()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> SimulatedPki:
    return SimulatedPki.create(tmp_path_factory.mktemp("whatif") / "sim")


def launched(pki: SimulatedPki, *, denied: bool = False) -> Launch:
    """A booted launch whose quote has the shape of a whole one; or one that was denied its image's key."""
    made = History()
    for step in (made.requested, made.sandboxed, made.agent_up):
        step()
    quote = Enclave(pki, history.MEASUREMENT).quote(
        events.event_key_binding(made.pod, made.key.public).ljust(64, b"\0")
    )
    made.say(replace(history.attested(made.pod, made.key), quote=quote), attempt=1)
    made.container()
    if denied:
        words = ("E-KEY-002", "the owner's policy denies kbs:///default/image-key/redis", "a policy", "PolicyDeny", "")
        made.say(events.StepFailed("decrypt_image", *words, False), container=APP, attempt=1, zone=Zone.ENCLAVE)
        return made.launch()
    verdict = f"docker 127.0.0.1:5000/redis: sigstoreSigned: {OWNER.public().fingerprint}"
    made.say(replace(history.image_decrypted(), verdict=verdict), container=APP, attempt=1)
    for done in (made.sealed, made.start, made.app_started, made.delivered, made.booted):
        done()
    return made.launch()


def judged(launch: Launch, folder: Path, name: str, policy: str | bytes, **values: object) -> list[tuple[Outcome, str]]:
    file = folder / name
    file.write_bytes(policy.encode() if isinstance(policy, str) else policy)
    references = folder / "reference-values.json"
    references.write_text(json.dumps(values))
    found = list(judge_of(file, references).judge(launch))
    return [(one.outcome, one.now) for one in found]


ATTESTATION = default_policy(PolicyId.ATTESTATION)
LISTED = {"sgx_mr_enclave": [history.MEASUREMENT.hex()], "allow_simulated": True}


def test_the_attestation_policy_of_then_affirms_again(pki: SimulatedPki, tmp_path: Path) -> None:
    assert judged(launched(pki), tmp_path, "p.rego", ATTESTATION, **LISTED) == [(Outcome.SAME, "affirming")]


@pytest.mark.parametrize("values", [{**LISTED, "sgx_mr_enclave": []}, {**LISTED, "allow_simulated": False}])
def test_a_measurement_or_a_kind_of_cpu_no_longer_admitted_is_denied(
    pki: SimulatedPki, tmp_path: Path, values: dict[str, object]
) -> None:
    ((outcome, now),) = judged(launched(pki), tmp_path, "p.rego", ATTESTATION, **values)
    assert outcome is Outcome.DENIED
    assert now in {"warning", "contraindicated"}


def test_a_launch_that_was_never_attested_has_no_quote_to_judge(tmp_path: Path) -> None:
    made = History()
    made.requested()
    ((outcome, why),) = judged(made.launch(), tmp_path, "p.rego", ATTESTATION, **LISTED)
    assert outcome is Outcome.UNKNOWN
    assert "no quote was recorded" in why


def test_an_attestation_policy_needs_reference_values(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_bytes(ATTESTATION)
    with pytest.raises(Permanent) as refused:
        judge_of(tmp_path / "p.rego", None)
    assert refused.value.code is Code.INPUT


NOBODY = "package policy\nimport rego.v1\ndefault allow := false\n"


def test_a_key_is_now_denied_or_now_given(pki: SimulatedPki, tmp_path: Path) -> None:
    default = default_policy(PolicyId.RESOURCE)
    assert judged(launched(pki), tmp_path, "r.rego", default) == [(Outcome.SAME, "given")]
    assert judged(launched(pki), tmp_path, "r.rego", NOBODY) == [(Outcome.DENIED, "denied")]
    assert judged(launched(pki, denied=True), tmp_path, "r.rego", NOBODY) == [(Outcome.SAME, "denied")]
    assert judged(launched(pki, denied=True), tmp_path, "r.rego", default) == [(Outcome.ADMITTED, "given")]


def image_policy(*requirements: dict[str, object]) -> str:
    return json.dumps({"default": [{"type": "reject"}], "transports": {"docker": {"127.0.0.1:5000": [*requirements]}}})


def test_an_image_policy_is_held_to_the_key_that_verified(pki: SimulatedPki, tmp_path: Path) -> None:
    def outcome(*requirements: dict[str, object]) -> Outcome:
        ((found, _),) = judged(launched(pki), tmp_path, "i.json", image_policy(*requirements))
        return found

    def signed(key: SigningKey) -> dict[str, object]:
        return {"type": "sigstoreSigned", "keyData": key.public_pem().decode()}

    assert outcome({"type": "insecureAcceptAnything"}) is Outcome.SAME
    assert outcome(signed(OWNER)) is Outcome.SAME
    assert outcome(signed(SigningKey.generate())) is Outcome.DENIED
    assert outcome({"type": "reject"}) is Outcome.DENIED
    assert outcome({"type": "sigstoreSigned", "keyPath": "kbs:///default/k/k"}) is Outcome.UNKNOWN


def test_a_launch_policy_without_a_rule_or_a_measurement_denies(pki: SimulatedPki, tmp_path: Path) -> None:
    def outcome(measurement: str, repository: str) -> Outcome:
        rule = {"image": repository, "args": {"from_image": True}}
        document = {"version": 1, "boot_measurements": [measurement], "rules": [rule]}
        ((found, _),) = judged(launched(pki), tmp_path, "l.json", json.dumps(document))
        return found

    assert outcome(history.APP_MEASUREMENT, "127.0.0.1:5000/redis") is Outcome.UNKNOWN
    assert outcome("00" * 32, "127.0.0.1:5000/redis") is Outcome.DENIED
    assert outcome(history.APP_MEASUREMENT, "127.0.0.1:5000/other") is Outcome.DENIED


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", "[]"),
        ("p.rego", "package"),
        ("p.json", "{}"),
        ("p.rego", "package policy\nimport rego.v1\nallowed := 1\n"),
    ],
)
def test_what_is_no_policy_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Permanent):
        judge_of(tmp_path / name, None)
