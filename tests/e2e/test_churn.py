"""Pods come and go: what one of them leaves behind, fifty would show."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import pytest

from deploy.local.cri import ContainerSpec
from orchestrator.lifecycle import State
from tests.e2e import inventory
from tests.e2e.cluster import Cluster
from tests.e2e.inventory import KIB, Inventory
from tests.tables import TABLE
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

WARM: Final = 10
"""Rounds before memory is compared: pools of threads and connections are filled, caches have met their first pods."""

WATCH: Final = 40
"""Rounds over which growth is measured."""

WATCHES: Final = 3
"""Times that a program must grow over its bound, watch after watch, to be held to leak: a leak goes on with every pod,
while an allocator's new arena or a heap that doubles before it is collected comes once.
"""

SAMPLE: Final = 10
"""Rounds whose least is one measure of memory: what a garbage collector had left."""

OURS: Final = 24 * KIB
"""Bytes a round by which a process of ours may grow. A launch forgotten by nobody costs 35 KiB, measured; allocators
take 8 to 13 KiB a round until they have what they need, after some two hundred.
"""

GOS: Final = 160 * KIB
"""The same for Go's programs, whose heaps double before they are collected. The bus also keeps each history for ever,
with its index and the block it was last written to; after two hundred launches it stays at 24 MB.
"""
GO_PROGRAMS: Final = ("bus", "registry")
SETTLED_AFTER: Final = 3.0
TITLE: Final = "memory of the stack while pods come and go"


def test_fifty_pods_that_came_and_went_leave_what_the_first_left(
    cluster: Cluster, record_property: Callable[[str, object], None]
) -> None:
    reference = cluster.publish_web("churn:1")
    cluster.kubelet.pull(reference)
    come_and_go(cluster, reference, 0)
    first = settled(cluster)
    memory = [inventory.memory(cluster)]
    suspects = set(memory[0])
    for watch in range(WATCHES):
        if not suspects:
            break
        for _ in range(WATCH + (0 if watch else WARM)):
            come_and_go(cluster, reference, len(memory))
            memory.append(inventory.memory(cluster))
        eventually(lambda: holds_no_more(cluster, first))
        grown = {name: growth([sample[name] for sample in memory[-WATCH:]]) for name in memory[0]}
        suspects &= {name for name, bytes_ in grown.items() if bytes_ > bound(name)}
        for name, bytes_ in grown.items():
            record_property(TABLE, (TITLE, name, f"after {len(memory) - 1} pods", f"{memory[-1][name] // KIB} KiB"))
            record_property(TABLE, (TITLE, name, f"a pod, watch {watch + 1}", f"{bytes_ / KIB:+.1f} KiB"))
    assert {name: f"{grown[name] / KIB:+.1f} KiB a pod, in each of {WATCHES} watches" for name in suspects} == {}


def holds_no_more(cluster: Cluster, than: Inventory) -> bool:
    """True; raises the kinds of which there are more."""
    more = inventory.taken(cluster).more_than(than)
    assert more == []
    return True


def bound(program: str) -> float:
    """Bytes a round that a process of this program may grow."""
    return GOS if program in GO_PROGRAMS else OURS


def come_and_go(cluster: Cluster, reference: str, number: int) -> None:
    """One pod's whole life, of which nothing is left."""
    pod = cluster.kubelet.run_pod(f"churn-{number}")
    container = cluster.kubelet.create_container(pod, ContainerSpec("main", reference))
    cluster.kubelet.start_container(container)
    cluster.kubelet.stop_container(container, grace_seconds=1)
    cluster.remove(pod.id)
    assert cluster.launch_of(pod.id).progress.state is State.GONE
    assert cluster.traces(pod.id) == []


def settled(cluster: Cluster) -> Inventory:
    """The inventory once it has been the same for a while: servers close connections when they like."""
    before, since = inventory.taken(cluster), time.monotonic()
    while time.monotonic() - since < SETTLED_AFTER:
        time.sleep(0.2)
        now = inventory.taken(cluster)
        if now.things != before.things:
            before, since = now, time.monotonic()
    return before


def growth(samples: list[int]) -> float:
    """Bytes a round between the first samples of a watch and its last ones."""
    return (min(samples[-SAMPLE:]) - min(samples[:SAMPLE])) / (len(samples) - SAMPLE)
