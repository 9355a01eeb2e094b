"""The control plane that other tests build on is a real one: RBAC, admission, tokens, custom resources."""

from __future__ import annotations

import time

import pytest

from tests.kubernetes import control_plane as planes
from tests.kubernetes.control_plane import ControlPlane
from tests.kubernetes.installation import OVERHEAD, install, runtime_class
from tests.kubernetes.kubectl import Kubectl, Refused
from tests.kubernetes.timing import Record, took
from tests.kubernetes.workloads import pod
from tests.waiting import eventually

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Cluster",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
                    }
                },
            }
        ],
    },
}
READER = [
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
    },
]


def test_it_is_there_within_moments(tmp_path_factory: pytest.TempPathFactory, record_property: Record) -> None:
    began = time.monotonic()
    with planes.running(tmp_path_factory.mktemp("plane")) as plane:
        took(record_property, "control plane alone", began)
        assert plane.answer("/readyz") == b"ok"
    assert plane.answer("/readyz") is None


def test_rbac_decides_as_kubectl_auth_can_i_says(control_plane: ControlPlane) -> None:
    account = "system:serviceaccount:default:default"
    kubectl = control_plane.kubectl
    assert not kubectl.can("list", "nodes", as_=account)
    kubectl.apply(*READER)
    assert eventually(lambda: kubectl.can("list", "nodes", as_=account))
    assert not kubectl.can("patch", "nodes", as_=account)
    theirs = Kubectl(kubectl.program, control_plane.kubeconfig_of("default", "default"))
    assert theirs.get("nodes")["items"] == []
    with pytest.raises(Refused, match="Forbidden"):
        theirs("get", "secrets")


def test_a_custom_resource_is_served_and_judged_by_its_schema(control_plane: ControlPlane) -> None:
    kubectl = control_plane.kubectl
    kubectl.apply(CRD)
    kubectl("wait", "--for=condition=Established", "crd/things.example.com")
    thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one"}, "spec": {"size": 1}}
    kubectl.apply(thing)
    assert kubectl.get("things", "one")["spec"] == {"size": 1}
    with pytest.raises(Refused, match=r"spec\.size"):
        kubectl.apply({**thing, "spec": {"size": "big"}})


def test_a_runtime_class_gives_its_pods_their_overhead_and_their_nodes(control_plane: ControlPlane) -> None:
    kubectl = control_plane.kubectl
    kubectl.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "somewhere"}})
    install(kubectl, "somewhere")
    kubectl.apply(pod("one", {"image": "registry.example/web:1"}))
    spec = kubectl.get("pod", "one")["spec"]
    assert spec["overhead"] == OVERHEAD
    assert runtime_class()["scheduling"]["nodeSelector"].items() <= spec["nodeSelector"].items()
