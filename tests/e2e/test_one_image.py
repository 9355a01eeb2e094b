"""A pod's image is decrypted once: for a container that is started again, for its neighbour, and ahead of both."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from deploy.local import images
from deploy.local.cri import ContainerSpec, Pod
from orchestrator.events import ImageDecrypted, Recorded
from orchestrator.faults import Permanent, Temporary
from orchestrator.lifecycle import State
from schemas.places import image_store_name
from tests.e2e.cluster import Cluster, fetch
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

COUNT = "echo once >> /count; cp /count /www/index.html; exec /bin/busybox httpd -f -p 8080 -h /www"
"""Serves how often it has run in this root."""


@pytest.fixture(scope="module")
def reference(cluster: Cluster) -> str:
    layout = images.busybox({"www/index.html": b""}, command=("/bin/sh", "-c", COUNT))
    cluster.owner.publish(str(layout), "one:1")
    cluster.kubelet.pull(cluster.reference("one:1"))
    return cluster.reference("one:1")


@contextmanager
def pod_of(cluster: Cluster, **annotations: str) -> Iterator[Pod]:
    named = {f"enclave-cc/{name}": value for name, value in annotations.items()}
    pod = cluster.kubelet.run_pod("one", annotations=named)
    try:
        yield pod
    finally:
        cluster.remove(pod.id)
        assert cluster.traces(pod.id) == []


def start(cluster: Cluster, pod: Pod, reference: str, patience: float = 60) -> str:
    container = cluster.kubelet.create_container(pod, ContainerSpec("main", reference))
    cluster.kubelet.start_container(container, patience)
    return container


def page(cluster: Cluster, pod: Pod) -> bytes:
    return eventually(lambda: fetch(f"http://{cluster.kubelet.pod_status(pod).ip}:8080/"))


def removed(cluster: Cluster, container: str) -> bool:
    try:
        cluster.kubelet.remove_container(container)
    except Permanent:
        return False
    return True


def decrypted(cluster: Cluster, pod: Pod) -> list[int]:
    """Bytes of ciphertext that were read for each container, in the order of the facts."""
    recorded = [message for message in cluster.histories()[pod.id] if isinstance(message, Recorded)]
    return [message.fact.body.bytes for message in recorded if isinstance(message.fact.body, ImageDecrypted)]


def test_a_container_that_is_started_again_finds_its_image_and_nothing_of_what_was_written(
    cluster: Cluster, reference: str
) -> None:
    with pod_of(cluster) as pod:
        for _ in range(3):
            container = start(cluster, pod, reference)
            assert page(cluster, pod) == b"once\n"
            cluster.kubelet.stop_container(container, grace_seconds=1)
            cluster.kubelet.remove_container(container)
        first, *others = decrypted(cluster, pod)
        assert first > 1_000_000
        assert others == [0, 0]


def test_an_image_that_the_pods_annotation_names_is_there_before_its_container(
    cluster: Cluster, reference: str
) -> None:
    with pod_of(cluster, prefetch=reference) as pod:
        # A pod that is sandboxed is attested, and its image is asked for next: whoever asks first reads it.
        eventually(lambda: list((cluster.layout.root / "state/stores" / pod.id).glob(f"{image_store_name(1)}*")))
        start(cluster, pod, reference)
        assert page(cluster, pod) == b"once\n"
        assert decrypted(cluster, pod) == [0]


def test_a_pull_that_outlasts_the_kubelets_patience_is_gone_on_with_and_found(cluster: Cluster, reference: str) -> None:
    """The registry stands still until after the kubelet has given the container up."""
    registry = cluster.pid("registry")
    with pod_of(cluster) as pod:
        os.kill(registry, signal.SIGSTOP)
        try:
            with pytest.raises(Temporary):
                start(cluster, pod, reference, patience=3)
        finally:
            os.kill(registry, signal.SIGCONT)
        (container,) = cluster.launch_of(pod.id).containers
        eventually(partial(removed, cluster, container))  # containerd starts it as long as its own patience lasts
        start(cluster, pod, reference)
        assert page(cluster, pod) == b"once\n"
    assert cluster.launch_of(pod.id).progress.state is State.GONE
