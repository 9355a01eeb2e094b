"""The pause container's specification, from what the CRI says of a pod."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.faults import Code, Permanent
from schemas.containerd import cri_pb2
from workers.host.create_sandbox import network_namespace
from workers.host.shim import sandbox_bundle
from workers.host.shim.bundle import read_bundle

NETNS = "/run/netns/cni-1"


def pod(**linux: Any) -> cri_pb2.PodSandboxConfig:
    return cri_pb2.PodSandboxConfig(
        metadata=cri_pb2.PodSandboxMetadata(name="web", namespace="shop", uid="u-1"),
        hostname="web",
        annotations={
            "enclave-cc/hold-failed-seconds": "7",
            "io.kubernetes.cri.sandbox-id": "forged",
            "io.kubernetes.cri.container-type": "container",
            "other/thing": "kept from us",
        },
        linux=cri_pb2.LinuxPodSandboxConfig(**linux),
    )


def written(path: Path, config: cri_pb2.PodSandboxConfig) -> dict[str, Any]:
    sandbox_bundle.write(path, "p0d", NETNS, config)
    document: dict[str, Any] = json.loads((path / "config.json").read_text())
    return document


def shared(**modes: Any) -> cri_pb2.PodSandboxConfig:
    options = cri_pb2.NamespaceOption(**modes)
    return pod(security_context=cri_pb2.LinuxSandboxSecurityContext(namespace_options=options))


def test_the_rest_of_the_system_reads_it_as_containerds_own(tmp_path: Path) -> None:
    written(tmp_path, pod())
    bundle = read_bundle(tmp_path)
    assert (bundle.is_sandbox, bundle.sandbox_id) == (True, "p0d")
    assert (bundle.namespace, bundle.pod_name, bundle.pod_uid) == ("shop", "web", "u-1")
    assert bundle.hold_seconds == 7
    assert network_namespace(tmp_path) == NETNS


def test_of_the_authors_annotations_only_ours_are_passed_on_and_none_replaces_the_cris(tmp_path: Path) -> None:
    assert written(tmp_path, pod())["annotations"] == {
        "enclave-cc/hold-failed-seconds": "7",
        "io.kubernetes.cri.container-type": "sandbox",
        "io.kubernetes.cri.sandbox-id": "p0d",
        "io.kubernetes.cri.sandbox-name": "web",
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-uid": "u-1",
    }


@pytest.mark.parametrize(
    ("modes", "kinds"),
    [
        ({}, {"mount", "network", "uts", "pid", "ipc"}),
        ({"pid": cri_pb2.CONTAINER}, {"mount", "network", "uts", "pid", "ipc"}),
        ({"pid": cri_pb2.NODE}, {"mount", "network", "uts", "ipc"}),
        ({"ipc": cri_pb2.NODE}, {"mount", "network", "uts", "pid"}),
        ({"network": cri_pb2.NODE}, {"mount", "pid", "ipc"}),
    ],
    ids=["pod", "a container's", "node's pids", "node's ipc", "node's network"],
)
def test_the_pods_namespaces_are_new_where_it_does_not_ask_for_the_nodes(
    tmp_path: Path, modes: dict[str, Any], kinds: set[str]
) -> None:
    namespaces = written(tmp_path, shared(**modes))["linux"]["namespaces"]
    assert {namespace["type"] for namespace in namespaces} == kinds
    assert [namespace["path"] for namespace in namespaces if "path" in namespace] == [NETNS] * ("network" in kinds)


@pytest.mark.parametrize(
    ("parent", "path"),
    [
        ("", "/k8s.io/p0d"),
        ("/kubepods/burstable/pod1", "/kubepods/burstable/pod1/p0d"),
        ("/kubepods.slice/kubepods-pod1.slice", "kubepods-pod1.slice:cri-containerd:p0d"),
    ],
    ids=["none", "a path", "systemd's"],
)
def test_its_cgroup_lies_in_the_pods(tmp_path: Path, parent: str, path: str) -> None:
    assert written(tmp_path, pod(cgroup_parent=parent))["linux"]["cgroupsPath"] == path


def test_what_the_pod_sets_in_the_kernel_is_set(tmp_path: Path) -> None:
    assert written(tmp_path, pod(sysctls={"net.core.somaxconn": "9"}))["linux"]["sysctl"] == {"net.core.somaxconn": "9"}


def test_a_user_namespace_is_refused_and_the_nodes_own_is_not(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="user namespace"):
        written(tmp_path, shared(userns_options=cri_pb2.UserNamespace(mode=cri_pb2.POD)))
    written(tmp_path, shared(userns_options=cri_pb2.UserNamespace(mode=cri_pb2.NODE)))


def test_a_node_without_a_pause_program_says_so_and_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as refused:
        sandbox_bundle.write(tmp_path, "p0d", NETNS, pod(), tmp_path / "none")
    assert refused.value.code is Code.SANDBOX_NOT_CREATED
    assert "catatonit" in refused.value.diagnosis.advice
    assert list(tmp_path.iterdir()) == []
