"""`kill -9` of every process that takes part in a launch, at each of its transitions; storage synced at every write.

A cell of the grid kills one process as soon as the fact is stored that begins a transition, that is while the
transition is executed. What must come of it:

- orchestrator, host worker, nats-server: supervisord starts them again, and the launch completes.
- The agent holds the pod's keys, so a pod does not outlive it: AGENT_LOST. Two exceptions. While it is being started
  it has no key, and is made again. And what has booted runs on: killed at the last transition, it may have done its
  part already.
- The shim is containerd's, which takes a lost one's pod for lost and has it removed: the history says STOPPED. Its
  bundle is taken away at once, which `start_app` may notice first: RUNTIME.

A launch that failed has left nothing behind after a kubelet's clean-up, and its successor boots.
"""

from __future__ import annotations

import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest

from orchestrator import events
from orchestrator.events import Fact, Recorded
from orchestrator.faults import Code, Fault
from orchestrator.launch import Launch
from orchestrator.lifecycle import LAUNCH_STATES, State
from tests.e2e import victims
from tests.e2e.agreement import disagreements
from tests.e2e.cluster import Cluster, Launched
from tests.e2e.victims import Victim
from tests.e2e.watch import Watch
from tests.tables import TABLE
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]  # the first test makes the stack and its images

Record = Callable[[str, object], None]
COMPLETED = "completed"
CONTENT = b"still here\n"
BEGINS = {
    State.SANDBOX: events.PodRequested,
    State.AGENT_UP: events.SandboxCreated,
    State.ATTESTED: events.AgentUp,
    State.IMAGE_DECRYPTED: events.ContainerRequested,
    State.FS_SEALED: events.ImageDecrypted,
    State.CONFIG_DELIVERED: events.StartRequested,
    State.APP_BOOTED: events.ConfigDelivered,
}
"""The fact with which the transition to a state begins. Containers are created and started apart: hence the two
requests of containerd's in the place of ATTESTED and FS_SEALED.
"""
TELLS = {
    State.SANDBOX: events.SandboxCreated,
    State.AGENT_UP: events.AgentUp,
    State.ATTESTED: events.Attested,
    State.IMAGE_DECRYPTED: events.ImageDecrypted,
    State.FS_SEALED: events.FsSealed,
    State.CONFIG_DELIVERED: events.ConfigDelivered,
    State.APP_BOOTED: events.AppBooted,
}


def outcomes(victim: Victim, state: State) -> set[str]:
    """What may come of a cell; see the module's head."""
    if victim is Victim.SHIM:
        return {Code.STOPPED, Code.RUNTIME} if state is State.CONFIG_DELIVERED else {Code.STOPPED}
    if victim is Victim.AGENT and state is State.AGENT_UP:
        return {COMPLETED, Code.AGENT_LOST}  # it may be up by the time that it dies
    if victim is Victim.AGENT and state is State.APP_BOOTED:
        return {COMPLETED, Code.AGENT_LOST}
    if victim is Victim.AGENT and state is not State.SANDBOX:
        return {Code.AGENT_LOST}
    return {COMPLETED}


@pytest.fixture(scope="module")
def reference(cluster: Cluster) -> str:
    return cluster.publish_web("killed:1", CONTENT)


@pytest.fixture
def name(victim: Victim, state: State) -> str:
    return f"{victim}-{state}"


@pytest.mark.parametrize("state", LAUNCH_STATES, ids=str)
@pytest.mark.parametrize("victim", Victim, ids=str)
def test_a_launch_survives_a_kill_or_fails_cleanly_and_can_be_launched_again(
    cluster: Cluster, reference: str, name: str, victim: Victim, state: State, record_property: Record
) -> None:
    pids = victims.pids_of_the_stack(cluster)
    killed: list[int] = []

    def find(pod: str) -> None:
        pids[Victim.SHIM] = victims.shim_of(cluster, pod)

    def strike(fact: Fact) -> None:
        if victim is Victim.AGENT and state is State.SANDBOX:
            return  # there is no agent yet
        killed.append(victims.agent_of(cluster, fact.pod) if victim is Victim.AGENT else pids[victim])
        victims.kill(killed[0])

    with Watch(cluster.stack, name, lambda fact: isinstance(fact.body, BEGINS[state]), strike, find) as watch:
        launched = launch(cluster, reference, name)
    assert watch.acted
    if victim.is_of_the_stack:
        eventually(lambda: all(s.ready and s.pid not in killed for s in cluster.stack.status()))
    eventually(lambda: not disagreements(cluster, watch.pod))
    outcome = COMPLETED if launched is not None else why(cluster.launch_of(watch.pod))
    record_property(TABLE, ("kill -9 at each transition", str(state), str(victim), str(outcome)))
    assert outcome in outcomes(victim, state)
    if launched is not None:
        check_completed(cluster, launched)
    clean_up(cluster)
    eventually(lambda: cluster.launch_of(watch.pod).progress.state is State.GONE)
    assert cluster.traces(watch.pod) == []
    assert disagreements(cluster, watch.pod) == []
    if launched is None:
        with cluster.launched(reference, f"{name}-again") as again:
            check_completed(cluster, again)


def launch(cluster: Cluster, reference: str, name: str) -> Launched | None:
    """None when containerd says that it failed."""
    with suppress(Fault):
        return cluster.launch(reference, name)
    return None


def check_completed(cluster: Cluster, launched: Launched) -> None:
    """Seven states, each told once, in order; nothing else was told of them; the workload answers."""
    history = cluster.histories()[launched.pod.id]
    told = Counter(type(message.fact.body) for message in history if isinstance(message, Recorded))
    assert {state: told[TELLS[state]] for state in LAUNCH_STATES} == dict.fromkeys(LAUNCH_STATES, 1)
    launch = cluster.launch_of(launched.pod.id)
    passed = (*launch.progress.passed, *launch.containers[launched.containers[0]].progress.passed)
    assert tuple(p.state for p in passed) == LAUNCH_STATES
    assert launch.ignored == ()
    assert eventually(lambda: answer(cluster, launched)) == CONTENT


def answer(cluster: Cluster, launched: Launched) -> bytes | None:
    """The workload's, which listens a moment after it has booted."""
    address = cluster.kubelet.pod_status(launched.pod).ip
    with suppress(OSError), urllib.request.urlopen(f"http://{address}:8080/", timeout=10) as reply:
        return bytes(reply.read())
    return None


def why(launch: Launch) -> str:
    """The code with which a launch ended."""
    if launch.failure is not None:
        return launch.failure.diagnosis.code
    return Code.STOPPED if launch.progress.stop_reason else ""


def clean_up(cluster: Cluster) -> None:
    """As a kubelet does: stop and remove, again and again until it is done."""
    ends = time.monotonic() + 60
    while pods := cluster.kubelet.pods():
        assert time.monotonic() < ends
        for pod in pods:
            with suppress(Fault):
                cluster.remove(pod)
