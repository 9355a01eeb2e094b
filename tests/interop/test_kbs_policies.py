"""Policies written for Trustee mean here what they mean there: the same engine, the same inputs, the same rules.

Source: Trustee `kbs/sample_policies/README.md`, `kbs/docs/resource_policy.md`, `attestation-service/docs/policy.md`.
"""

from __future__ import annotations

import pytest

from deploy.kbs.appraisal import appraise
from deploy.kbs.owner import default_policy
from deploy.kbs.policies import Policies, PolicyBroken
from deploy.kbs.state import PolicyId

EVIDENCE = "ear.veraison.annotated-evidence"
GENUINE = {"submods": {"cpu0": {"ear.status": "contraindicated", EVIDENCE: {"sgx": {"tcb_status": "UpToDate"}}}}}
SAMPLE = {"submods": {"cpu0": {"ear.status": "affirming", EVIDENCE: {"sample": {"svn": "1"}}}}}
AFFIRMED = {"submods": {"cpu0": {"ear.status": "affirming", EVIDENCE: {"sgx": {}}}}}

# Older syntax (`=` for `:=`, rules without import), a helper rule, negation: what Trustee's samples are made of.
NOT_SAMPLE = """
package policy
default allow = false
plugin = data.plugin
allow if {
    plugin == "resource"
    not input["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["sample"]
}
"""
ALL_AFFIRMING = """
package policy
import rego.v1
default allow = false
any_not_affirming if {
    some _, submod in input.submods
    submod["ear.status"] != "affirming"
}
allow if {
    not any_not_affirming
    count(input.submods) > 0
}
"""
BY_PATH = """
package policy
import rego.v1
default allow := false
path := data["resource-path"]
allow if { path[0] == "my'repo"; count(path) == 3; startswith(path[2], "boot-") }
allow if data.query.reason == "break-glass"
"""
ALLOW_ALL, DENY_ALL = "package policy\ndefault allow = true\n", "package policy\ndefault allow = false\n"


@pytest.fixture
def policies(tmp_path):
    for policy in PolicyId:
        (tmp_path / f"{policy}.rego").write_bytes(default_policy(policy))
    return Policies(tmp_path, {"digests": ["abc", "def"], "minimum": 4, "smt": False}.get)


def request(*path, plugin="resource", **query):
    return {"plugin": plugin, "resource-path": list(path), "query": query}


@pytest.mark.parametrize(
    ("rego", "claims", "asked", "allowed"),
    [
        (NOT_SAMPLE, GENUINE, request("a", "b", "c"), True),
        (NOT_SAMPLE, SAMPLE, request("a", "b", "c"), False),
        (NOT_SAMPLE, GENUINE, request("a", plugin="nebula-ca"), False),
        (NOT_SAMPLE, {}, request("a", "b", "c"), True),
        (ALL_AFFIRMING, AFFIRMED, request("a", "b", "c"), True),
        (ALL_AFFIRMING, GENUINE, request("a", "b", "c"), False),
        (ALL_AFFIRMING, {"submods": {}}, request("a", "b", "c"), False),
        (BY_PATH, GENUINE, request("my'repo", "b", "boot-1"), True),
        (BY_PATH, GENUINE, request("my'repo", "b", "run-1"), False),
        (BY_PATH, GENUINE, request("x", "b", "c", reason="break-glass"), True),
        (ALLOW_ALL, {}, request(), True),
        (DENY_ALL, AFFIRMED, request("a", "b", "c"), False),
    ],
)
def test_a_resource_policy(policies, rego, claims, asked, allowed):
    policies.replace(PolicyId.RESOURCE, rego)
    assert policies.allows(claims, asked) is allowed


JUDGES = """
package policy
import rego.v1
default executables := 33
default hardware := 97
default configuration := 36
trust_claims := {"executables": executables, "hardware": hardware, "configuration": configuration}
executables := 3 if { input.sgx; input.sgx.body.mr_enclave in query_reference_value("digests") }
hardware := 2 if { input.sgx; input.sgx.svn >= query_reference_value("minimum") }
configuration := 2 if { input.sgx; input.sgx.smt == query_reference_value("smt") }
else := 3 if { input.sgx; query_reference_value("absent") == null }
"""


@pytest.mark.parametrize(
    ("sgx", "expected"),
    [
        ({"body": {"mr_enclave": "abc"}, "svn": 4, "smt": False}, (3, 2, 2)),
        ({"body": {"mr_enclave": "abd"}, "svn": 3, "smt": True}, (33, 97, 3)),
        ({"body": {}}, (33, 97, 3)),
    ],
)
def test_an_attestation_policy_with_reference_values_defaults_and_else(policies, sgx, expected):
    policies.replace(PolicyId.ATTESTATION, JUDGES)
    vector = appraise(policies, {"sgx": sgx})["ear.trustworthiness-vector"]
    assert (vector["executables"], vector["hardware"], vector["configuration"]) == expected


def test_reference_values_are_for_the_attestation_policy_alone(policies):
    policies.replace(PolicyId.RESOURCE, 'package policy\nallow := query_reference_value("digests") != null\n')
    with pytest.raises(PolicyBroken, match="query_reference_value"):
        policies.allows(AFFIRMED, request("a", "b", "c"))
