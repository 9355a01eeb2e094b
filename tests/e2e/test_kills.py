"""Each process of the node is killed while pods run and a command streams: nothing is lost, counted line by line.

And the bus is away for longer: what a kubelet can do with its pods meanwhile, and what is made up for afterwards. The
same with twenty pods and a hundred megabytes, beside runc: `just soak-kills`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.cri import ContainerSpec
from orchestrator.events import Exited, Recorded, TornDown
from orchestrator.faults import Temporary
from orchestrator.lifecycle import State
from tests.e2e import talkers
from tests.e2e.agreement import disagreements
from tests.e2e.cluster import Cluster
from tests.e2e.kill_rounds import Rounds, Victim
from tests.e2e.streams import Counted
from tests.e2e.talkers import Images, Talker, Talkers
from tests.tables import TABLE
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
BOUND = 60.0
"""Seconds in which whatever needs the bus is answered without it: well under a kubelet's two minutes."""

PODS, ENDING, PIECES = 4, 1, 10
"""Pods that run; those that end while somebody is away; millions of bytes that a command streams."""

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def made(cluster: Cluster) -> Images:
    images = talkers.publish(cluster)
    cluster.kubelet.pull(images.sealed)
    return images


@pytest.fixture(scope="module")
def rounds(cluster: Cluster, made: Images) -> Iterator[Rounds]:
    rounds = Rounds(cluster, cluster.kubelet, made, handler="enclave-cc", pieces=PIECES)
    rounds.start(PODS)
    yield rounds
    assert not (lost := rounds.finish().lost), "; ".join(lost)
    cluster.kubelet.remove_everything()


@pytest.mark.parametrize("victim", Victim, ids=lambda victim: victim.name.lower())
def test_pods_lines_exits_and_bytes_outlive_whoever_is_killed(
    rounds: Rounds, victim: Victim, record_property: Record
) -> None:
    outcome = rounds.strike(victim, ENDING)
    for column, cell in outcome.cells().items():
        record_property(TABLE, ("kill -9 while 4 pods run and a command streams 10 MB", str(victim), column, cell))
    assert not outcome.lost, "; ".join(outcome.lost)


def test_what_runs_lives_on_and_can_be_killed_and_deleted_and_the_rest_is_unavailable_and_made_up_for(
    cluster: Cluster, made: Images
) -> None:
    kubelet = cluster.kubelet
    pods = Talkers(cluster, kubelet, made.sealed)
    staying, ending, stopped, removed = (pods.start(f"away-{number}") for number in range(4))
    later = kubelet.create_container(staying.pod, ContainerSpec("later", made.sealed, ("/bin/sh", "/talk", "9")))
    length, digest = made.stream(PIECES)
    stream = Counted(kubelet.exec_url(staying.container, ("/bin/sh", "/stream", str(PIECES))), length)
    stream.flows()
    cluster.stop("bus")

    spoken = len(staying.spoken().lines)
    ending.tell(signal.SIGTERM)
    with ThreadPoolExecutor(3) as asked:
        refused = [
            asked.submit(refusal, lambda: kubelet.run_pod("away-refused")),
            asked.submit(refusal, lambda: kubelet.start_container(later)),
            asked.submit(refusal, lambda: kubelet.exec(staying.container, ("/bin/sh", "/stream", "1"), seconds=90)),
        ]
        kubelet.stop_container(stopped.container, grace_seconds=10)
        eventually(lambda: pods.has_ended(stopped))
        eventually(lambda: pods.has_ended(ending))
        kubelet.remove_container(stopped.container)
        cluster.remove(removed.pod.id)
        assert removed.pod.id not in kubelet.pods()
        said = [refusal.result(2 * BOUND) for refusal in refused]
    for words, seconds in said:
        assert "E-BUS-001" in words
        assert seconds < BOUND
    assert pods.runs(staying)
    eventually(lambda: len(staying.spoken().lines) > spoken + talkers.BURST)

    cluster.start("bus")
    assert (stream.go_on(), stream.received, stream.status) == (digest, length, talkers.STREAM_STATUS)
    eventually(lambda: cluster.launch_of(removed.pod.id).progress.state is State.GONE)
    eventually(lambda: told(cluster, stopped, TornDown))
    assert [body.code for body in told(cluster, ending, Exited)] == [ending.code]
    assert [body.code for body in told(cluster, stopped, Exited)] == [stopped.code]
    assert cluster.traces(removed.pod.id) == []
    eventually(lambda: len(shims(cluster)) == len(kubelet.pods()))
    again = pods.again(ending)
    assert pods.runs(again)
    talkers.halted([staying, again])
    for talker in (staying, ending, stopped, again):
        assert talker.spoken().whole
        assert cluster.launch_of(talker.pod.id).ignored == ()
        eventually(lambda talker=talker: not disagreements(cluster, talker.pod.id))
    for talker in (staying, ending, stopped):
        cluster.remove(talker.pod.id)


def shims(cluster: Cluster) -> list[Path]:
    """The sockets of shims that there are."""
    return [path for path in (cluster.layout.containerd.parent / "enclave-cc").iterdir() if path.is_socket()]


def refusal(ask: Callable[[], object]) -> tuple[str, float]:
    """The words with which it was refused, and after how many seconds."""
    began = time.monotonic()
    with pytest.raises(Temporary) as unavailable:
        ask()
    return unavailable.value.diagnosis.got, time.monotonic() - began


def told(cluster: Cluster, talker: Talker, kind: type[Exited | TornDown]) -> list[Exited | TornDown]:
    """The facts of this kind about its container."""
    history = cluster.histories()[talker.pod.id]
    facts = [message.fact for message in history if isinstance(message, Recorded)]
    return [fact.body for fact in facts if fact.container == talker.container and isinstance(fact.body, kind)]
