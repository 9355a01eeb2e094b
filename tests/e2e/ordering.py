"""What an operator does on a stack: launches that fail and are held, and the orders as they are typed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from deploy.cli import enclave_cc
from deploy.local.cri import ContainerSpec, Pod
from orchestrator.bus import Histories, connect
from orchestrator.events import Foreign, PodRequested, Recorded
from orchestrator.fold import apply
from orchestrator.launch import Launch, awaited, new
from orchestrator.lifecycle import HOLD
from tests.e2e.cluster import Cluster, Launched
from workers.host.shim.bundle import HOLD_ANNOTATION

WHY = ("--reason", "the owner has mended it", "--by", "alice")
HELD_FOR = "100"
"""Seconds; less than a kubelet waits for an answer."""

PATIENCE = 60.0
"""Seconds; only a failure takes as long."""


@dataclass(frozen=True, slots=True)
class Typed:
    """What a command printed and ended with."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


def typed(cluster: Cluster, *words: str, config: Path | None = None) -> Typed:
    """`enclave-cc` with these words, on the cluster's stack; by its name, unless settings are given.

    In this process: starting one each time would be a third of what these tests take.
    """
    where = ("--config", str(config)) if config else ("--name", cluster.layout.name)
    shown = CliRunner().invoke(enclave_cc, [*words, *where])
    assert shown.exception is None or isinstance(shown.exception, SystemExit), repr(shown.exception)
    return Typed(shown.exit_code, shown.stdout, shown.stderr)


@dataclass(frozen=True, slots=True)
class Held:
    """A pod that is being launched, held or not; `launched` is containerd's answer, when it comes."""

    id: str
    launched: Future[Launched]


class Launcher:
    """Asks for pods as a kubelet does, several at once: of a launch that is held, containerd's call waits."""

    def __init__(self, cluster: Cluster, reference: str, pool: ThreadPoolExecutor) -> None:
        self._cluster = cluster
        self._reference = reference
        self._pool = pool

    def launch(self, name: str, *, command: tuple[str, ...] = (), hold: str = HELD_FOR) -> Held:
        """Ask for a pod and its container; returns as soon as the pod is in a history."""
        answer = self._pool.submit(self._launch, name, command, hold)
        return Held(until_named(self._cluster, name), answer)

    def _launch(self, name: str, command: tuple[str, ...], hold: str) -> Launched:
        kubelet = self._cluster.kubelet
        pod: Pod = kubelet.run_pod(name, annotations={HOLD_ANNOTATION: hold})
        container = kubelet.create_container(pod, ContainerSpec("app", self._reference, command))
        kubelet.start_container(container)
        return Launched(pod, (container,))


@contextmanager
def launching(cluster: Cluster, reference: str) -> Iterator[Launcher]:
    """Afterwards every pod is removed, and every call has been answered."""
    with ThreadPoolExecutor(8) as pool:
        try:
            yield Launcher(cluster, reference, pool)
        finally:
            cluster.kubelet.remove_everything()


def until_named(cluster: Cluster, name: str) -> str:
    """The newest pod of that name, as soon as there is one."""

    async def look() -> str:
        async with await connect(cluster.stack.credentials("reader"), "tests") as bus:
            found = ""
            while not found:
                async for pod, message in Histories(bus).scan():
                    body = message.fact.body if isinstance(message, Recorded) else None
                    found = pod if isinstance(body, PodRequested) and body.name == name else found
                await asyncio.sleep(0.05)
            return found

    return asyncio.run(asyncio.wait_for(look(), PATIENCE))


def until_held(cluster: Cluster, pod: str) -> Launch:
    """The launch, once something of it has failed and is held."""

    async def look() -> Launch:
        launch = new(pod)
        async with await connect(cluster.stack.credentials("reader"), "tests") as bus:
            async for message in Histories(bus).follow(pod):
                launch = apply(launch, message)
                if any(step.transition is HOLD for step in awaited(launch)):
                    break
        return launch

    return asyncio.run(asyncio.wait_for(look(), PATIENCE))


def facts(history: list[Recorded | Foreign], kind: type) -> list[Recorded]:
    """Those of a kind."""
    return [m for m in history if isinstance(m, Recorded) and isinstance(m.fact.body, kind)]
