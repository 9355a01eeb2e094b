"""Later containerds on one node: which version of the shim's service each speaks, and a pod's life under it.

On containerd 2 a pod's sandbox is made once by containerd, as a pause container, and once by the shim.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from deploy.local import images
from deploy.local.cri import ContainerState
from deploy.local.stack import Stack
from orchestrator.events import ImageDecrypted, Recorded
from orchestrator.faults import Permanent
from orchestrator.lifecycle import State
from schemas.containerd import task_pb2
from tests.e2e import next_containerd
from tests.e2e.cluster import Cluster, fetch
from tests.simulators.ttrpc_client import Client
from tests.waiting import eventually
from workers.host.shim import sandbox_files

pytestmark = pytest.mark.e2e
BY_CONTAINERD, BY_SHIM = "enclave-cc", "enclave-cc-sandbox"
BUNDLES = "io.containerd.runtime.v2.task"
SANDBOXES = "io.containerd.sandbox.controller.v1.shim"
SERVE_OR_STAY = ("/bin/sh", "-c", "/bin/busybox httpd -f -p 8080 -h /www || exec sleep 600")
"""The first of a pod's containers has the port."""


@contextmanager
def stack_on(release: str) -> Iterator[Stack]:
    """A stack on that release of containerd, where it can be had."""
    with pytest.MonkeyPatch.context() as environment:
        try:
            private = next_containerd.binaries(release)
        except next_containerd.Unavailable as reason:
            pytest.skip(f"containerd {release}: {reason}")
        environment.setenv("PATH", str(private), prepend=":")
        stack = Stack.create(f"test-{secrets.token_hex(3)}")
        try:
            stack.up()
            assert Cluster(stack).kubelet.version().startswith(f"{release}.")
            yield stack
        finally:
            left = stack.down()
        assert left == []


@pytest.fixture(scope="module")
def two() -> Iterator[Stack]:
    """On containerd 2."""
    with stack_on("2.1") as stack:
        yield stack


def publish(cluster: Cluster) -> str:
    """A workload to which the owner admits `/bin/echo`."""
    cluster.owner.publish(str(images.busybox({"www/index.html": b"sealed\n"}, command=SERVE_OR_STAY)), "web:1")
    policies = cluster.owner.policies
    document = json.loads(policies.launch_policy.read_text())
    (rule,) = [rule for rule in document["rules"] if rule["image"].endswith("/web")]
    rule |= {"name": "web", "exec": [{"name": "greet", "args": ["/bin/echo", "hello"]}]}
    policies.launch_policy.write_text(json.dumps(document))
    with closing(cluster.owner.admin()) as broker:
        policies.put(broker)
    return cluster.reference("web:1")


def spoken(cluster: Cluster, bundles: list[Path]) -> set[tuple[int, str]]:
    """Version and address by which containerd reaches each bundle's shim; 1.7 keeps no more than an address."""
    found = set()
    for bundle in bundles:
        kept = bundle / "bootstrap.json"
        if kept.exists():
            told = json.loads(kept.read_text())
            assert told["protocol"] == "ttrpc"
            found.add((told["version"], told["address"]))
        else:
            found.add((2, (bundle / "address").read_text()))
    return found


async def shim_pid(address: str) -> int:
    """The process that serves there, asked in version 3."""
    async with Client(address) as client:
        request = task_pb2.ConnectRequest(id="anybody")
        reply = await client.call("containerd.task.v3.Task/Connect", request, task_pb2.ConnectResponse, seconds=10)
        return reply.shim_pid


def live(stack: Stack, handler: str, version: int, place: str) -> None:
    """A pod's life, in that version; `place` is where containerd keeps the sandbox's bundle."""
    cluster = Cluster(stack, handler)
    kubelet = cluster.kubelet
    with cluster.launched(publish(cluster), containers=2) as launched:
        pod = launched.pod
        state = cluster.layout.run / "containerd"
        sandbox = state / place / "k8s.io" / pod.id
        bundles = [state / BUNDLES / "k8s.io" / container for container in launched.containers]
        ((told, address),) = spoken(cluster, [sandbox, *bundles])
        assert told == version
        assert (sandbox / "address").read_text() == address
        assert [bundle for bundle in bundles if (bundle / "address").exists()] == (bundles if version == 2 else [])
        for bundle in bundles:
            places = {mount["destination"] for mount in json.loads((bundle / "config.json").read_text())["mounts"]}
            assert set(sandbox_files.FILES) <= places
        assert kubelet.pod_status(pod).ready
        assert eventually(lambda: fetch(f"http://{kubelet.pod_status(pod).ip}:8080/")) == b"sealed\n"
        history = [message for message in cluster.histories()[pod.id] if isinstance(message, Recorded)]
        read = [message.fact.body.bytes for message in history if isinstance(message.fact.body, ImageDecrypted)]
        assert (len(read), read[0] > 0, read[1]) == (2, True, 0)

        first, second = launched.containers
        assert kubelet.exec(first, ["/bin/echo", "hello"]) == (0, b"hello\n", b"")
        with pytest.raises(Permanent, match="E-EXEC-001"):
            kubelet.exec(first, ["/bin/env"])
        cluster.restart("containerd")
        eventually(kubelet.ready)
        assert kubelet.pod_status(pod).ready
        assert kubelet.exec(second, ["/bin/echo", "hello"]) == (0, b"hello\n", b"")
        kubelet.stop_container(first, grace_seconds=1)
        assert kubelet.container_status(first).state is ContainerState.EXITED
        kubelet.remove_container(first)
        assert kubelet.container_status(second).state is ContainerState.RUNNING
        kubelet.stop_pod(pod.id)
        assert not kubelet.pod_status(pod).ready
    assert cluster.launch_of(pod.id).progress.state is State.GONE
    assert cluster.traces(pod.id) == []
    eventually(lambda: not list((cluster.layout.run / "enclave-cc").glob("*")))


def test_1_7_is_spoken_to_in_version_2_and_makes_the_sandbox_whatever_it_is_told() -> None:
    with stack_on("1.7") as stack:
        live(stack, BY_SHIM, 2, BUNDLES)


@pytest.mark.parametrize(("handler", "place"), [(BY_CONTAINERD, BUNDLES), (BY_SHIM, SANDBOXES)])
def test_2_1_is_spoken_to_in_version_3_and_either_makes_the_sandbox(two: Stack, handler: str, place: str) -> None:
    live(two, handler, 3, place)


def removed(cluster: Cluster, pod: str) -> bool:
    """As a kubelet tries it: containerd 2.1 refuses until it has seen that a container of a lost shim has ended."""
    cluster.remove(pod)
    return True


def test_a_killed_shim_that_made_the_sandbox_ends_its_pod_and_nothing_is_left(two: Stack) -> None:
    cluster = Cluster(two, BY_SHIM)
    launched = cluster.launch(publish(cluster))
    ((_, address),) = spoken(cluster, [cluster.layout.run / "containerd" / BUNDLES / "k8s.io" / launched.containers[0]])
    os.kill(asyncio.run(shim_pid(address)), signal.SIGKILL)
    eventually(lambda: removed(cluster, launched.pod.id))
    assert cluster.launch_of(launched.pod.id).progress.state is State.GONE
    assert cluster.traces(launched.pod.id) == []
