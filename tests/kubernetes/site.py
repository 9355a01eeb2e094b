"""The cluster under test: one of our own, with everything of it on this machine, or whichever KUBECONFIG leads to.

Somebody else's cluster is used when both are set: KUBECONFIG, and ENCLAVE_CC_IMAGES, the `host/path` under which its
owner published the images of `workloads`. There `own` is None, and what can only be seen on the node is not looked at.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.local.stack import Stack
from orchestrator.launch import Launch
from tests.e2e.cluster import Cluster
from tests.kubernetes import installation, workloads
from tests.kubernetes.control_plane import ControlPlane, programs
from tests.kubernetes.kubectl import Kubectl, Refused
from tests.kubernetes.node import NAME, Node
from tests.waiting import eventually


@dataclass(frozen=True, slots=True)
class Own:
    """What there is to see of a cluster on this machine."""

    plane: ControlPlane
    node: Node
    cluster: Cluster


@dataclass(frozen=True, slots=True)
class Site:
    """Where the tests run. `kubectl` is in a namespace of this run's own, which goes with it."""

    kubectl: Kubectl
    images: str
    own: Own | None

    def image(self, name: str) -> str:
        """The reference of one of the images of `workloads`."""
        return f"{self.images}/{name}:1"

    def pod(self, name: str) -> dict[str, Any]:
        """A pod as the API server has it."""
        return self.kubectl.get("pod", name)

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """The namespace's pods, or those of a label selector."""
        words = ["pods", *([f"--selector={selector}"] if selector else [])]
        found: list[dict[str, Any]] = self.kubectl.get(*words)["items"]
        return found

    def ready(self, name: str) -> dict[str, Any]:
        """Wait until a pod is ready; what it says of itself when it is not."""
        self.wait(f"pod/{name}", "condition=Ready")
        return self.pod(name)

    def restarts(self, name: str) -> int:
        """How often a pod's containers were started again."""
        return sum(int(status["restartCount"]) for status in self.statuses(name))

    def statuses(self, name: str) -> list[dict[str, Any]]:
        """What the API server holds of a pod's containers."""
        found: list[dict[str, Any]] = self.pod(name)["status"].get("containerStatuses", [])
        return found

    def events(self, name: str) -> str:
        """What the cluster says that happened to a pod, as `kubectl describe` shows it."""
        return self.kubectl("describe", "pod", name)

    def touch(self, name: str, file: str) -> None:
        """Make a file in a pod's container, be it that the container ends for it, which kills the command with it."""
        with suppress(Refused):
            self.kubectl("exec", name, "--", "/bin/sh", "-c", f"touch {file}")

    def wait(self, what: str, condition: str, seconds: int = 120) -> None:
        """`kubectl wait`; fails with what the pods and their events say."""
        try:
            self.kubectl("wait", f"--for={condition}", what, f"--timeout={seconds}s", seconds=seconds + 30)
        except Refused as refused:
            said = self.kubectl("get", "events", "--sort-by=.lastTimestamp") + self.kubectl("get", "pods", "-o", "wide")
            raise AssertionError(f"{refused}\n{said[-6000:]}") from refused

    def left_of(self, *launches: Launch) -> list[str]:
        """What the node still has of launches. Only of a cluster of our own."""
        assert self.own is not None
        return [trace for launch in launches for trace in self.own.cluster.traces(launch.pod)]

    def follow(self, pod: str) -> subprocess.Popen[str]:
        """`kubectl logs --follow`, under way: it ends when the pod's container has."""
        command = self.kubectl.command("logs", "--follow", pod)
        return subprocess.Popen(command, env=self.kubectl.environment, stdout=subprocess.PIPE, text=True)

    def remove(self, *what: str, wait: bool = False) -> None:
        """Delete objects; with `wait`, be back when they are gone, which a kubelet tells every ten seconds only."""
        self.kubectl("delete", "--ignore-not-found", f"--wait={str(wait).lower()}", *what)

    @contextmanager
    def running(self, pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """A pod that is ready, deleted afterwards; its name is not free at once."""
        name = pod["metadata"]["name"]
        self.kubectl.apply(pod)
        try:
            yield self.ready(name)
        finally:
            self.remove("pod", name)


def namespace() -> str:
    """A name that no other run has: what a kubelet leaves under its namespace's name is then this run's."""
    return f"enclave-cc-{secrets.token_hex(3)}"


@contextmanager
def somebody_elses() -> Iterator[Site | None]:
    """The cluster of KUBECONFIG, with a namespace in it; None where the environment does not name one."""
    config, images = os.environ.get("KUBECONFIG"), os.environ.get("ENCLAVE_CC_IMAGES")
    if not config or not images:
        yield None
        return
    kubectl = Kubectl(shutil.which("kubectl") or str(programs() / "kubectl"), Path(config))
    with _namespaced(kubectl) as inside:
        yield Site(inside, images, None)


@contextmanager
def own() -> Iterator[Site]:
    """A cluster of our own, with one node. Afterwards nothing of it is left, or this fails."""
    stack = Stack.create(f"k8s-{secrets.token_hex(3)}")
    with ExitStack() as ends:
        ends.callback(_take_away, stack)
        plane = ControlPlane(stack.layout.root / "kubernetes", programs())
        ends.callback(plane.stop)
        plane.start()
        stack.up()
        cluster = Cluster(stack)
        workloads.publish(cluster)
        site = Site(Kubectl(plane.kubectl.program, plane.kubectl.config, namespace()), stack.layout.registry_host, None)
        node = Node(plane, stack, site.kubectl.namespace)
        ends.callback(node.stop)
        node.start()
        installation.install(plane.kubectl, NAME)
        with _namespaced(site.kubectl):
            yield replace(site, own=Own(plane, node, cluster))
        # A kubelet removes the last of what has ended once a minute.
        assert eventually(lambda: not cluster.kubelet.pods(), 180)
        assert eventually(lambda: [trace for pod in cluster.histories() for trace in cluster.traces(pod)] == [])


@contextmanager
def _namespaced(kubectl: Kubectl) -> Iterator[Kubectl]:
    inside = kubectl if kubectl.namespace != "default" else replace(kubectl, namespace=namespace())
    inside("create", "namespace", inside.namespace)
    try:
        yield inside
    finally:
        with suppress(Refused):
            inside("delete", "pods", "--all", "--wait=true")
        inside("delete", "namespace", inside.namespace, "--wait=true")


def _take_away(stack: Stack) -> None:
    left = stack.down()
    assert left == []
