"""What the operator may do, rule by rule: the list is closed."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.operator.names import NODE_ACCOUNT, OPERATOR_ACCOUNT, verification_class
from deploy.operator.permissions import CLUSTER_RULES, NAMESPACE_RULES, Rule
from tests.helm import NAMESPACE, Rendered, render
from tests.unit.deploy.chart.conftest import TRUSTEE

NODES = "enclave-cc-nodes"
CLASSES = {"enclave-cc", "enclave-cc-verification"}


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    return render(*TRUSTEE)


def rights(rules: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Verbs by resource, where no object is named."""
    found: dict[str, set[str]] = {}
    for rule in rules:
        for resource in rule["resources"]:
            if "resourceNames" not in rule:
                found.setdefault(f"{rule['apiGroups'][0]}/{resource}", set()).update(rule["verbs"])
    return found


def told(rules: list[dict[str, Any]]) -> list[Rule]:
    """Rules as the operator names them."""
    return [
        Rule(group, tuple(rule["resources"]), tuple(rule["verbs"]), tuple(rule.get("resourceNames", ())))
        for rule in rules
        for group in rule["apiGroups"]
    ]


def test_the_roles_are_what_the_operator_says_it_needs_rule_by_rule(rendered: Rendered) -> None:
    assert told(rendered.one("ClusterRole", "enclave-cc-operator")["rules"]) == list(CLUSTER_RULES)
    assert told(rendered.one("Role", "enclave-cc-operator")["rules"]) == list(NAMESPACE_RULES)


def test_the_accounts_are_those_that_the_operator_names(rendered: Rendered) -> None:
    assert rendered.one("ServiceAccount", OPERATOR_ACCOUNT)["metadata"]["namespace"] == NAMESPACE
    assert rendered.one("ServiceAccount", NODE_ACCOUNT)["metadata"]["namespace"] == NODES
    for binding in rendered.of_kind("ClusterRoleBinding", "RoleBinding"):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": OPERATOR_ACCOUNT, "namespace": NAMESPACE}]
    spec = rendered.one("Deployment", "enclave-cc-operator")["spec"]["template"]["spec"]
    assert spec["containers"][0]["args"][:4] == ["operator", "run", "--namespace", NODES]


def test_other_runtime_classes_are_named_with_what_verifies_them() -> None:
    rules = render(*TRUSTEE, "--set", "operator.runtimeClasses={a,b}").one("ClusterRole", "enclave-cc-operator")[
        "rules"
    ]
    (rule,) = [rule for rule in told(rules) if rule.named]
    assert rule.named == ("a", verification_class("a"), "b", verification_class("b"))


def test_cluster_wide_it_sees_nodes_and_pods_and_patches_nodes(rendered: Rendered) -> None:
    rules = rendered.one("ClusterRole", "enclave-cc-operator")["rules"]
    assert rights(rules) == {
        "enclave-cc.dev/enclaveruntimes": {"get", "list", "watch", "patch"},
        "enclave-cc.dev/enclaveruntimes/status": {"patch"},
        "/nodes": {"get", "list", "watch", "patch"},
        "/pods": {"get", "list", "watch"},
        "/pods/eviction": {"create"},
        "node.k8s.io/runtimeclasses": {"create"},
    }


def test_runtime_classes_are_changed_by_name_alone(rendered: Rendered) -> None:
    (rule,) = [r for r in rendered.one("ClusterRole", "enclave-cc-operator")["rules"] if "resourceNames" in r]
    assert (rule["apiGroups"], rule["resources"]) == (["node.k8s.io"], ["runtimeclasses"])
    assert set(rule["resourceNames"]) == CLASSES
    assert set(rule["verbs"]) == {"get", "patch", "delete"}


def test_jobs_are_made_in_the_nodes_namespace_alone(rendered: Rendered) -> None:
    (role,) = rendered.of_kind("Role")
    assert role["metadata"]["namespace"] == NODES
    assert rights(role["rules"]) == {
        "batch/jobs": {"get", "list", "watch", "create", "delete"},
        "/pods": {"create", "delete"},
        "coordination.k8s.io/leases": {"get", "create", "patch"},
    }


def test_no_rule_names_secrets_or_nodes_proxy_or_everything(rendered: Rendered) -> None:
    for role in rendered.of_kind("ClusterRole", "Role"):
        for rule in role["rules"]:
            assert not {"secrets", "nodes/proxy", "pods/exec", "pods/attach", "*"} & {
                *rule["resources"],
                *rule["verbs"],
            }
            assert "*" not in rule["apiGroups"]
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_nobody_else_has_rights(rendered: Rendered) -> None:
    assert len(rendered.of_kind("ClusterRoleBinding", "RoleBinding")) == 2


def test_the_nodes_namespace_is_privileged_and_apart_and_without_network(rendered: Rendered) -> None:
    labels = rendered.one("Namespace", NODES)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    (policy,) = [p for p in rendered.of_kind("NetworkPolicy") if p["metadata"]["namespace"] == NODES]
    assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_without_the_operator_nobody_has_any_right() -> None:
    without = render(*TRUSTEE, "--set", "operator.enabled=false")
    assert without.of_kind("ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding", "Namespace") == []
