"""What makes a confidential pod pointless is refused, by the texts that the ValidatingAdmissionPolicy has."""

from __future__ import annotations

import copy

import pytest

from deploy.operator.admission.policy import policy
from deploy.operator.admission.rules import KNOWN_ANNOTATIONS, RULES
from deploy.operator.admission.webhook import prefetched, refused
from workers.host.shim import bundle

IMAGE = f"registry.test/app@sha256:{'0' * 64}"
POD = {
    "metadata": {"name": "p", "annotations": {"enclave-cc/hold-failed-seconds": "60", "other.test/enclave-cc": "x"}},
    "spec": {
        "runtimeClassName": "enclave-cc",
        "initContainers": [{"name": "i", "image": IMAGE}],
        "containers": [{"name": "c", "image": IMAGE, "securityContext": {"capabilities": {"drop": ["ALL"]}}}],
        "volumes": [
            {"name": "a", "configMap": {"name": "m"}},
            {"name": "b", "secret": {"secretName": "s"}},
            {"name": "c", "projected": {"sources": []}},
            {"name": "d", "emptyDir": {}},
            {"name": "e", "persistentVolumeClaim": {"claimName": "v"}},
        ],
    },
}


def with_(path: str, value: object) -> dict:
    pod = copy.deepcopy(POD)
    *way, last = path.split("/")
    place = pod
    for part in way:
        place = place[int(part)] if part.isdecimal() else place.setdefault(part, {})
    place[int(last) if last.isdecimal() else last] = value
    return pod


def test_an_ordinary_confidential_pod_passes() -> None:
    assert refused(POD) == []


def test_the_smallest_pod_passes() -> None:
    assert refused({"metadata": {}, "spec": {"containers": [{"image": IMAGE}]}}) == []


@pytest.mark.parametrize(
    ("rule", "path", "value"),
    [
        ("host-network", "spec/hostNetwork", True),
        ("host-pid", "spec/hostPID", True),
        ("host-ipc", "spec/hostIPC", True),
        ("host-path", "spec/volumes/0", {"name": "a", "hostPath": {"path": "/"}}),
        ("privileged", "spec/containers/0/securityContext/privileged", True),
        ("privileged", "spec/initContainers/0/securityContext", {"privileged": True}),
        ("capabilities", "spec/containers/0/securityContext/capabilities/add", ["SYS_ADMIN"]),
        ("ephemeral-containers", "spec/ephemeralContainers", [{"name": "e", "image": IMAGE}]),
        ("image-by-digest", "spec/containers/0/image", "registry.test/app:1"),
        ("image-by-digest", "spec/initContainers/0/image", "registry.test/app"),
        ("image-by-digest", "spec/containers/0/image", f"{IMAGE}0"),
        ("known-annotations", "metadata/annotations", {"enclave-cc/init-data": "x"}),
    ],
)
def test_each_rule_refuses_what_it_is_for_and_nothing_else(rule: str, path: str, value: object) -> None:
    assert [broken.name for broken in refused(with_(path, value))] == [rule]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec/hostNetwork", False),
        ("spec/containers/0/securityContext/privileged", False),
        ("spec/containers/0/securityContext/capabilities/add", []),
        ("spec/ephemeralContainers", []),
    ],
)
def test_what_is_said_to_be_off_is_off(path: str, value: object) -> None:
    assert refused(with_(path, value)) == []


def test_what_cannot_be_evaluated_is_refused() -> None:
    assert "image-by-digest" in {rule.name for rule in refused(with_("spec/containers", "nonsense"))}


def test_every_rule_has_a_pod_that_it_refuses() -> None:
    (mark,) = (
        mark for mark in test_each_rule_refuses_what_it_is_for_and_nothing_else.pytestmark if mark.name == "parametrize"
    )
    assert {row[0] for row in mark.args[1]} == {rule.name for rule in RULES}


def test_the_known_annotations_are_those_that_the_shim_reads() -> None:
    read = {value for name, value in vars(bundle).items() if name.endswith("_ANNOTATION")}
    assert set(KNOWN_ANNOTATIONS) == read


def test_policy_and_webhook_have_the_same_texts() -> None:
    written, binding = policy()
    assert [v["expression"] for v in written["spec"]["validations"]] == [rule.expression for rule in RULES]
    assert written["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"]["policyName"] == written["metadata"]["name"]


def test_a_pods_images_are_named_for_prefetching_each_once() -> None:
    assert prefetched(POD) == IMAGE


def test_what_the_pod_says_itself_about_prefetching_stays() -> None:
    assert prefetched(with_("metadata/annotations", {"enclave-cc/prefetch": "mine"})) is None


def test_no_more_is_named_than_the_shim_would_read() -> None:
    many = [{"image": f"registry.test/{i}@sha256:{'0' * 64}"} for i in range(20)]
    assert len(str(prefetched(with_("spec/containers", many))).split(",")) == 16
