"""A whole stack for tests: the processes, an owner, a kubelet; and what a test wants to know of a launch."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local import images
from deploy.local.cri import ContainerSpec, Kubelet, Pod
from deploy.local.owner import Owner
from deploy.local.stack import Stack
from orchestrator.bus import Histories, connect
from orchestrator.events import Foreign, Recorded
from orchestrator.fold import fold
from orchestrator.launch import Launch
from tests.machine import cgroups_naming
from tests.waiting import eventually

WEB = ("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www")
"""A small workload that answers: busybox's HTTP server, with what the image holds under /www."""


def fetch(url: str) -> bytes | None:
    """What a workload's server answers; None while it does not listen yet: its first instruction came before that."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            content: bytes = answer.read()
            return content
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class Launched:
    """A pod of a test, with its containers' ids in the order of their creation."""

    pod: Pod
    containers: tuple[str, ...]


class Cluster:
    """One node's worth of everything, running."""

    def __init__(self, stack: Stack, handler: str = "enclave-cc") -> None:
        self.stack = stack
        self.layout = stack.layout
        self.owner = Owner(stack.layout)
        self.kubelet = Kubelet(stack.layout.containerd, handler=handler, log_directory=stack.layout.logs / "pods")

    def publish_web(self, name: str, content: bytes = b"hello from an enclave\n") -> str:
        """Publish the small HTTP image as `name` (`repository:tag`); returns the reference to launch."""
        layout = images.busybox({"www/index.html": content}, command=WEB)
        self.owner.publish(str(layout), name)
        return self.reference(name)

    def amend(self, repository: str, **members: object) -> None:
        """The owner changes the launch policy's rule for one repository, and it holds from now on."""
        policies = self.owner.policies
        document = json.loads(policies.launch_policy.read_text())
        (rule,) = [rule for rule in document["rules"] if rule["image"].endswith(f"/{repository}")]
        rule |= members
        policies.launch_policy.write_text(json.dumps(document))
        with closing(self.owner.admin()) as broker:
            policies.put(broker)

    def reference(self, name: str) -> str:
        """`repository:tag` as a kubelet would name it."""
        return f"{self.layout.registry_host}/{name}"

    def launch(self, reference: str, name: str = "pod", containers: int = 1, command: Sequence[str] = ()) -> Launched:
        """Pull, run a pod, create and start its containers. A fault leaves the pod for the caller: see `launched`."""
        self.kubelet.pull(reference)
        pod = self.kubelet.run_pod(name)
        ids = []
        for number in range(containers):
            spec = ContainerSpec(f"c{number}", reference, command=command)
            ids.append(self.kubelet.create_container(pod, spec))
            self.kubelet.start_container(ids[-1])
        return Launched(pod, tuple(ids))

    @contextmanager
    def launched(self, reference: str, name: str = "pod", containers: int = 1) -> Iterator[Launched]:
        """A running pod, stopped and removed afterwards."""
        launched = self.launch(reference, name, containers)
        try:
            yield launched
        finally:
            self.remove(launched.pod.id)

    def remove(self, pod: str) -> None:
        """Stop and remove a pod."""
        self.kubelet.stop_pod(pod)
        self.kubelet.remove_pod(pod)

    def histories(self) -> dict[str, list[Recorded | Foreign]]:
        """Every pod's history, by pod id, in the order of their first facts."""

        async def read() -> dict[str, list[Recorded | Foreign]]:
            found: dict[str, list[Recorded | Foreign]] = {}
            async with await connect(self.stack.credentials("reader"), "tests") as bus:
                async for pod, recorded in Histories(bus).scan():
                    found.setdefault(pod, []).append(recorded)
            return found

        return asyncio.run(read())

    def launch_of(self, pod: str) -> Launch:
        """The fold of one pod's history."""
        return fold(pod, self.histories()[pod])

    def newest_launch(self) -> Launch:
        """The fold of the history that began last: of a launch that failed before its id was told."""
        pod, history = list(self.histories().items())[-1]
        return fold(pod, history)

    def restart(self, program: str) -> None:
        """Stop and start one process of the stack, and wait until it answers."""
        self.stop(program)
        self.start(program)

    def stop(self, program: str) -> None:
        """Stop one process of the stack."""
        self.stack.supervisor.stop(program)

    def start(self, program: str) -> None:
        """Start one process and wait until it answers."""
        self.stack.supervisor.start(program)
        eventually(lambda: next((s for s in self.stack.status() if s.name == program and s.ready), None))

    def pid(self, program: str) -> int:
        """The pid of one process of the stack."""
        return next(status.pid for status in self.stack.status() if status.name == program)

    def collect_garbage(self) -> None:
        """Have containerd remove now what nothing refers to. Left alone it waits fifty times as long as the last
        collection took (pause_threshold, containerd docs/garbage-collection.md), which a slow disk makes minutes.
        """
        leases = ["ctr", "--address", str(self.layout.containerd), "--namespace", "k8s.io", "leases"]
        lease = subprocess.run([*leases, "create"], check=True, capture_output=True, text=True).stdout.strip()
        subprocess.run([*leases, "delete", "--sync", lease], check=True, capture_output=True)

    def traces(self, pod: str) -> list[str]:
        """What is left of a pod on this machine outside histories, logs and containerd's own records."""
        run, state = self.layout.run, self.layout.root / "state"
        found = [str(path) for path in (run / "pods" / pod, state / "stores" / pod) if path.exists()]
        found += [str(path) for path in (*(run / "held").glob(f"{pod}*"), *(run / "exits").glob(f"{pod}*"))]
        found += [str(path) for path in (run / "runc").glob(f"{pod}*")]
        found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if pod in line]
        return found + [str(path) for path in cgroups_naming(pod)]
