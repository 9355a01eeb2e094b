"""What `enclave-cc node` does to a node with containerd and pods, from end to end: told of several containerds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.cri import ContainerSpec, Kubelet, Pod
from orchestrator.faults import Temporary
from tests.e2e.cluster import fetch
from tests.e2e.node_host import KEPT, NodeHost
from tests.trees import tree_hash
from tests.waiting import eventually

PAGE = b"sealed\n"


@contextmanager
def running(kubelet: Kubelet, name: str, image: str) -> Iterator[str]:
    """A pod that serves a page; its address."""
    eventually(kubelet.ready)  # a client that saw containerd's restart connects again when it is next asked
    # As a kubelet does it: the sandbox first, and with its image's pull what containerd 1.7 to 2.1 find the handler by.
    pod = eventually(lambda: sandbox(kubelet, name))
    try:
        kubelet.pull(image, pod)
        container = kubelet.create_container(pod, ContainerSpec("web", image))
        kubelet.start_container(container)
        address = kubelet.pod_status(pod).ip
        assert served(address)
        yield address
    finally:
        kubelet.stop_pod(pod.id)
        kubelet.remove_pod(pod.id)


def sandbox(kubelet: Kubelet, name: str) -> Pod | None:
    """None where a kubelet would try again: a worker that was just started may still be on its way to the bus."""
    try:
        return kubelet.run_pod(name, annotations={"io.containerd.cri.runtime-handler": "enclave-cc"})
    except Temporary:
        return None


def served(address: str) -> bool:
    return eventually(lambda: fetch(f"http://{address}:8080/")) == PAGE


def story(node: NodeHost, payloads: tuple[Path, Path], release: str) -> None:
    """From a node that never heard of us, and back."""
    one, two = payloads
    image = node.cluster.publish_web("web:1", PAGE)
    before = tree_hash(node.root, KEPT)
    bystander = node.plain.run_pod("bystander")
    created = node.plain.pod_status(bystander).created_ns

    installed = node.run("install", "--payload", one)
    assert installed["phase"] == "installed", installed
    assert (installed["restarted"], installed["configurationChanged"]) == (True, True)
    assert installed["containerdVersion"].startswith(release)
    assert set(installed["measurements"]["sim"]) == {"agent", "boot"}
    again = node.run("install", "--payload", one)
    assert (again["phase"], again["restarted"], again["configurationChanged"]) == ("installed", False, False)

    with running(node.kubelet, "first", image) as first:
        node.restart_containerd()
        assert served(first)
        upgraded = node.run("upgrade", "--payload", two)
        assert (upgraded["phase"], upgraded["restarted"]) == ("upgraded", False), upgraded
        assert upgraded["previousDigest"] == installed["payloadDigest"]
        assert served(first)
        with running(node.kubelet, "second", image):
            refused = node.run("uninstall")
            assert (refused["phase"], refused["error"]["code"]) == ("failed", "E-NODE-004")
        back = node.run("rollback")
        assert (back["phase"], back["payloadDigest"]) == ("rolled-back", installed["payloadDigest"]), back
        assert served(first)
    assert node.run("status")["phase"] == "rolled-back"

    gone = node.run("uninstall")
    assert (gone["phase"], gone["restarted"]) == ("uninstalled", True), gone
    assert tree_hash(node.root, KEPT) == before
    assert node.run("uninstall")["phase"] == "uninstalled"
    status = node.plain.pod_status(bystander)
    assert (status.ready, status.created_ns) == (True, created)
    node.plain.stop_pod(bystander.id)
    node.plain.remove_pod(bystander.id)
