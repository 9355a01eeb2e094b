"""The policies that ship: nothing is affirmed that the owner did not list."""

from __future__ import annotations

import pytest

from deploy.kbs.appraisal import appraise
from deploy.kbs.owner import default_policy
from deploy.kbs.policies import Policies, PolicyBroken
from deploy.kbs.state import PolicyId

LISTED, CONFIG_ID = "ab" * 32, "cd" * 32 + "00" * 32
GOOD = {"sgx_mr_enclave": [LISTED]}
SIMULATED = GOOD | {"allow_simulated": True}


def policies(tmp_path, references):
    for policy in PolicyId:
        (tmp_path / f"{policy}.rego").write_bytes(default_policy(policy))
    return Policies(tmp_path, references.get)


def evidence(*, simulated=False, flags="0500000000000000", tcb="UpToDate", expired="0", **changes):
    body = {"mr_enclave": LISTED, "attributes.flags": flags, "config_id": CONFIG_ID} | changes
    sgx = {"body": body, "tcb_status": tcb, "collateral_expiration_status": expired, "simulated": simulated}
    return {"sgx": sgx, "report_data": "", "init_data": "", "runtime_data_claims": {}, "init_data_claims": None}


def judge(tmp_path, references, subject):
    judged = appraise(policies(tmp_path, references), subject)
    vector = judged["ear.trustworthiness-vector"]
    return judged["ear.status"], vector["executables"], vector["configuration"], vector["hardware"]


@pytest.mark.parametrize(
    ("references", "subject", "expected"),
    [
        (GOOD, evidence(), ("affirming", 3, 2, 2)),
        ({}, evidence(), ("warning", 33, 2, 2)),
        ({"sgx_mr_enclave": []}, evidence(), ("warning", 33, 2, 2)),
        ({"sgx_mr_enclave": LISTED}, evidence(), ("warning", 33, 2, 2)),
        (GOOD, evidence(mr_enclave="00" * 32), ("warning", 33, 2, 2)),
        (GOOD, evidence(flags="0700000000000000"), ("warning", 3, 36, 2)),
        (GOOD, evidence(flags="1500000000000000"), ("affirming", 3, 2, 2)),
        (GOOD, evidence(flags="c700000000000000"), ("warning", 3, 36, 2)),
        (GOOD, evidence(flags="8f00000000000000"), ("warning", 3, 36, 2)),
        (GOOD, evidence(flags=""), ("warning", 3, 36, 2)),
        (GOOD | {"sgx_config_id": [CONFIG_ID]}, evidence(), ("affirming", 3, 2, 2)),
        (GOOD | {"sgx_config_id": []}, evidence(), ("warning", 3, 36, 2)),
        (GOOD | {"sgx_config_id": ["00" * 64]}, evidence(), ("warning", 3, 36, 2)),
        (GOOD, evidence(tcb="SWHardeningNeeded"), ("contraindicated", 3, 2, 97)),
        (GOOD | {"sgx_tcb_status": ["SWHardeningNeeded"]}, evidence(tcb="SWHardeningNeeded"), ("affirming", 3, 2, 2)),
        (GOOD | {"sgx_tcb_status": ["SWHardeningNeeded"]}, evidence(), ("contraindicated", 3, 2, 97)),
        (GOOD | {"sgx_tcb_status": []}, evidence(), ("contraindicated", 3, 2, 97)),
        (GOOD, evidence(expired="1"), ("contraindicated", 3, 2, 97)),
        (GOOD, evidence(simulated=True), ("contraindicated", 3, 2, 97)),
        (GOOD | {"allow_simulated": False}, evidence(simulated=True), ("contraindicated", 3, 2, 97)),
        (GOOD | {"allow_simulated": "true"}, evidence(simulated=True), ("contraindicated", 3, 2, 97)),
        (GOOD | {"allow_simulated": ["true"]}, evidence(simulated=True), ("contraindicated", 3, 2, 97)),
        (SIMULATED, evidence(simulated=True), ("affirming", 3, 2, 2)),
        (SIMULATED, evidence(simulated=True, tcb="OutOfDate"), ("contraindicated", 3, 2, 97)),
        (SIMULATED, evidence(simulated=True, flags="0700000000000000"), ("warning", 3, 36, 2)),
        (SIMULATED, {"sample": {"svn": "1"}, "report_data": ""}, ("contraindicated", 33, 36, 97)),
    ],
)
def test_the_default_attestation_policy(tmp_path, references, subject, expected):
    assert judge(tmp_path, references, subject) == expected


def test_the_default_attestation_policy_serves_trustee_which_knows_no_simulated_root(tmp_path):
    subject = evidence()
    del subject["sgx"]["simulated"]
    assert judge(tmp_path, GOOD, subject) == ("affirming", 3, 2, 2)


@pytest.mark.parametrize(
    ("claims", "plugin", "allowed"),
    [
        ({"submods": {"cpu0": {"ear.status": "affirming"}}}, "resource", True),
        ({"submods": {"cpu0": {"ear.status": "affirming"}}}, "pkcs11", False),
        ({"submods": {"cpu0": {"ear.status": "warning"}}}, "resource", False),
        ({"submods": {"cpu0": {"ear.status": "none"}}}, "resource", False),
        ({"submods": {"cpu0": {"ear.status": "affirming"}, "gpu0": {"ear.status": "warning"}}}, "resource", False),
        ({"submods": {"cpu0": {}}}, "resource", False),
        ({"submods": {}}, "resource", False),
        ({}, "resource", False),
    ],
)
def test_the_default_resource_policy(tmp_path, claims, plugin, allowed):
    request = {"plugin": plugin, "resource-path": ["default", "key", "1"], "query": {}}
    assert policies(tmp_path, {}).allows(claims, request) is allowed


def test_a_policy_that_cannot_be_parsed_is_refused_and_the_old_one_stays(tmp_path):
    both = policies(tmp_path, {})
    for policy in PolicyId:
        with pytest.raises(PolicyBroken, match="error") as broken:
            both.replace(policy, "package policy\nallow if {")
        assert "backtrace" not in str(broken.value)
        assert (tmp_path / f"{policy}.rego").read_bytes() == default_policy(policy)


@pytest.mark.parametrize("missing", list(PolicyId))
def test_without_a_policy_there_are_no_policies(tmp_path, missing):
    policies(tmp_path, {})
    (tmp_path / f"{missing}.rego").unlink()
    with pytest.raises(PolicyBroken, match=missing):
        Policies(tmp_path, {}.get)


@pytest.mark.parametrize(
    "rule",
    [
        "trust_claims := {}",
        "trust_claims := 3",
        'trust_claims := {"executables": "3"}',
        'trust_claims := {"executables": 3.5}',
        'trust_claims := {"executables": 128}',
        'trust_claims := {"executables": true}',
        'trust_claims := {"executables": 3, "reputation": 2}',
        "trust_claims := query_reference_value(1)",
    ],
)
def test_what_is_no_trust_vector_judges_nobody(tmp_path, rule):
    both = policies(tmp_path, {})
    both.replace(PolicyId.ATTESTATION, f"package policy\nimport rego.v1\n{rule}\n")
    with pytest.raises(PolicyBroken):
        appraise(both, evidence())


@pytest.mark.parametrize(
    ("value", "status"),
    [(0, "none"), (1, "none"), (-1, "none"), (2, "affirming"), (31, "affirming"), (-2, "affirming"), (-32, "affirming")]
    + [(32, "warning"), (95, "warning"), (-33, "warning"), (-96, "warning")]
    + [(96, "contraindicated"), (127, "contraindicated"), (-97, "contraindicated"), (-128, "contraindicated")],
)
def test_the_status_is_ar4sis_tier_of_the_worst_claim(tmp_path, value, status):
    both = policies(tmp_path, {})
    both.replace(PolicyId.ATTESTATION, f'package policy\ntrust_claims := {{"hardware": {value}, "executables": 0}}\n')
    assert appraise(both, evidence())["ear.status"] == status
