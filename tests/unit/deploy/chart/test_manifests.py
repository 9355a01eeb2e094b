"""Whatever the chart is rendered for is valid, confined, by digest, without a secret, and reachable only as named."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import click
import kubernetes_validate

from deploy.cli import enclave_cc
from tests.helm import NAMESPACE, Rendered

RELEASES = ("1.27", "1.37")
OWN = "enclave-cc/control-plane@"


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


@cache
def judged(document: str) -> None:
    """Most manifests are the same for most values: each is judged once."""
    for release in RELEASES:
        kubernetes_validate.validate(json.loads(document), release, strict=True)


def test_every_manifest_is_valid_for_old_and_new_kubernetes(chart: Rendered) -> None:
    for manifest in chart.manifests:
        judged(json.dumps(manifest, sort_keys=True))


def test_no_two_manifests_are_one_object(chart: Rendered) -> None:
    named = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in chart.manifests]
    assert len(named) == len(set(named))


def test_every_pod_is_one_that_the_level_restricted_admits(chart: Rendered) -> None:
    for name, _, spec in chart.pods():
        pod = spec["securityContext"]
        assert (pod["runAsNonRoot"], pod["seccompProfile"]) == (True, {"type": "RuntimeDefault"}), name
        assert pod["runAsUser"] > 0
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}, name
        for container in containers(spec):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["privileged"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_only_the_operator_and_a_writer_to_a_cloud_have_a_token(chart: Rendered) -> None:
    for name, _, spec in chart.pods():
        expected = name == "enclave-cc-operator" or (name == "enclave-cc-audit" and "s3://" in chart.text)
        assert spec["automountServiceAccountToken"] is expected, name
    for account in chart.of_kind("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_every_pod_has_an_account_of_its_own_that_exists(chart: Rendered) -> None:
    accounts = {account["metadata"]["name"] for account in chart.of_kind("ServiceAccount")}
    used = [spec["serviceAccountName"] for _, _, spec in chart.pods()]
    assert len(used) == len(set(used))
    assert accounts == {*used, "enclave-cc-node"}


def test_every_image_is_named_by_its_digest_alone(chart: Rendered) -> None:
    images = [container["image"] for _, _, spec in chart.pods() for container in containers(spec)]
    assert images
    for image in images:
        assert re.fullmatch(r"[a-z/-]+@sha256:[0-9a-f]{64}", image), image


def test_there_is_no_secret_in_it_and_none_in_an_environment(chart: Rendered) -> None:
    assert chart.of_kind("Secret") == []
    for name, _, spec in chart.pods():
        for container in containers(spec):
            assert "envFrom" not in container
            assert all("secretKeyRef" not in variable.get("valueFrom", {}) for variable in container.get("env", [])), (
                name
            )


def test_what_a_pod_mounts_is_what_its_kind_of_process_needs(chart: Rendered) -> None:
    allowed = {
        "enclave-cc-bus": {"enclave-cc-bus-server"},
        "enclave-cc-orchestrator": {"enclave-cc-bus-orchestrator"},
        "enclave-cc-audit": {"enclave-cc-bus-reader", "enclave-cc-audit"},
        "enclave-cc-console": {"enclave-cc-bus-reader", "enclave-cc-console", "enclave-cc-audit", "oidc", "oidc-ca"},
        "enclave-cc-test": {"enclave-cc-bus-reader"},
        "enclave-cc-kbs": {"enclave-cc-kbs"},
        "enclave-cc-operator": set[str](),
    }
    for name, _, spec in chart.pods():
        mounted = {v["secret"]["secretName"] for v in spec.get("volumes", []) if "secret" in v}
        expected = {"enclave-cc-bus-admin"} if name.startswith("enclave-cc-streams-") else allowed[name]
        assert mounted <= expected, name
        for volume in spec.get("volumes", []):
            if name == "enclave-cc-console" and volume.get("secret", {}).get("secretName") == "enclave-cc-audit":
                assert [item["key"] for item in volume["secret"]["items"]] == ["audit.policy"]


def test_every_volume_that_is_mounted_is_there_and_every_other_way_round(chart: Rendered) -> None:
    claims = {m["metadata"]["name"]: m["spec"] for m in chart.of_kind("StatefulSet")}
    for name, _, spec in chart.pods():
        there = {volume["name"] for volume in spec.get("volumes", [])}
        there |= {c["metadata"]["name"] for c in claims.get(name, {}).get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for container in containers(spec) for mount in container.get("volumeMounts", [])}
        assert mounted == there, name


def test_every_policy_selects_a_workload_and_every_workload_has_one(chart: Rendered) -> None:
    policies = [p for p in chart.of_kind("NetworkPolicy") if p["metadata"]["namespace"] == NAMESPACE]
    (nothing,) = [p for p in policies if p["spec"]["podSelector"] == {}]
    assert nothing["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    selected = [p["spec"]["podSelector"]["matchLabels"] for p in policies if p is not nothing]
    labelled = [labels for _, labels, _ in chart.pods()]
    key = "app.kubernetes.io/component"
    assert sorted(s[key] for s in selected) == sorted(labels[key] for labels in labelled)
    assert all(any(s.items() <= labels.items() for labels in labelled) for s in selected)


def test_the_flows_are_the_named_ones(chart: Rendered) -> None:
    for policy in chart.of_kind("NetworkPolicy"):
        part = policy["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/component")
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        in_ports = {port["port"] for rule in policy["spec"].get("ingress", []) for port in rule["ports"]}
        out_ports = {port["port"] for rule in policy["spec"].get("egress", []) for port in rule["ports"]} - {53}
        assert in_ports <= {"bus": {4222, 6222}, "console": {8640}, "kbs": {8443}}.get(part, set()), part
        client = {4222}
        allowed = {"operator": {443, 6443}, "bus": {6222}, "audit": {4222, 443}, "console": {4222, 443}}
        assert out_ports <= allowed.get(part, client if part in {"orchestrator", "streams", "test"} else set()), part
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], part
        for rule in policy["spec"].get("egress", []):
            assert rule.get("to") or part == "operator", part


def test_a_disruption_leaves_a_majority(chart: Rendered) -> None:
    budgets = {b["metadata"]["name"]: b["spec"] for b in chart.of_kind("PodDisruptionBudget")}
    many = chart.one("StatefulSet", "enclave-cc-bus")["spec"]["replicas"] == 3
    assert budgets.keys() == {"enclave-cc-operator", "enclave-cc-orchestrator", *(["enclave-cc-bus"] if many else [])}
    assert all(budget["maxUnavailable"] == 1 for budget in budgets.values())


def test_every_command_line_of_ours_is_one_that_the_program_takes(chart: Rendered) -> None:
    for _, _, spec in chart.pods():
        for container in containers(spec):
            if not container["image"].startswith(OWN) or "command" in container:
                continue
            command: click.Command = enclave_cc
            words = list(container["args"])
            while isinstance(command, click.Group):
                found = command.get_command(click.Context(command), words.pop(0))
                assert found is not None, container["args"]
                command = found
            known = {option for parameter in command.params for option in parameter.opts}
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert given <= known, container["args"]
