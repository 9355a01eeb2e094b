"""Five pods of two containers each, launched at once on one node, and what each can learn of another: nothing.

Asked from where an attacker would stand: in a pod's network, with a pod's bus user, through a pod's doors, as the host
that starts a genuine enclave in the wrong pod or gives it another's sealed store.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from deploy.local import images
from deploy.local.cri import ContainerSpec, ContainerState, Pod
from orchestrator.bus import subjects
from orchestrator.events import Fact, FsSealed
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch
from orchestrator.lifecycle import LAUNCH_STATES, State
from schemas.places import AGENT_PORT, BUS_DOOR, HTTP_DOOR, STORE, STORES, image_store_name
from tests.e2e.agreement import disagreements
from tests.e2e.cluster import Cluster
from tests.e2e.intrusion import in_network, start_boot_init
from tests.e2e.watch import Watch
from tests.nats import settled
from tests.waiting import eventually
from workers.enclave import door
from workers.enclave.event_key import BusKey
from workers.host.bus_users import AgentSigner, agent_inbox, mint_agent_user

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]  # the first test makes the stack and its images

PODS, CONTAINERS = 5, 2
FIRST_PORT = 8080
PUBLISH, SUBSCRIBE = "publish", "subscription"
VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')
"""As the server says it and the client passes it on, which makes it small."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A running pod: its launch, its address, and the content that only its own containers serve, by port."""

    pod: Pod
    launch: Launch
    address: str
    contents: dict[int, bytes]

    @property
    def netns(self) -> str:
        assert self.launch.sandbox is not None
        return self.launch.sandbox.netns

    @property
    def sandbox_pid(self) -> int:
        assert self.launch.sandbox is not None
        return self.launch.sandbox.pid

    @property
    def agent_pid(self) -> int:
        assert self.launch.agent is not None
        return self.launch.agent.pid

    @property
    def app_pids(self) -> list[int]:
        return [c.started.pid for c in self.launch.containers.values() if c.started is not None]

    @property
    def stores(self) -> set[str]:
        return {c.sealed.store for c in self.launch.containers.values() if c.sealed is not None}

    @property
    def names(self) -> set[str]:
        """Everything by which something of this pod could be named."""
        return {self.pod.id, *self.launch.containers, *self.stores}


def content(pod: int, container: int) -> bytes:
    return f"of container {container} of pod {pod}\n".encode()


def publish(cluster: Cluster, pod: int, container: int) -> str:
    command = ("/bin/busybox", "httpd", "-f", "-p", str(FIRST_PORT + container), "-h", "/www")
    files = {"www/index.html": content(pod, container)}
    cluster.owner.publish(str(images.busybox(files, command=command)), f"many-{pod}-{container}:1")
    return cluster.reference(f"many-{pod}-{container}:1")


def launch(cluster: Cluster, number: int, references: list[str]) -> Placed:
    pod = cluster.kubelet.run_pod(f"many-{number}")
    for index, reference in enumerate(references):
        container = cluster.kubelet.create_container(pod, ContainerSpec(f"c{index}", reference))
        cluster.kubelet.start_container(container)
    contents = {FIRST_PORT + index: content(number, index) for index in range(CONTAINERS)}
    return Placed(pod, cluster.launch_of(pod.id), cluster.kubelet.pod_status(pod).ip, contents)


@pytest.fixture(scope="module")
def placed(cluster: Cluster) -> Iterator[list[Placed]]:
    references = [[publish(cluster, pod, container) for container in range(CONTAINERS)] for pod in range(PODS)]
    for reference in (reference for of_pod in references for reference in of_pod):
        cluster.kubelet.pull(reference)
    with ThreadPoolExecutor(PODS) as threads:
        yield list(threads.map(lambda number: launch(cluster, number, references[number]), range(PODS)))
        pods = cluster.kubelet.pods()
        list(threads.map(cluster.remove, pods))
    assert [trace for pod in pods for trace in cluster.traces(pod)] == []


def test_all_containers_of_all_pods_reach_app_booted_and_serve_their_own_content(
    cluster: Cluster, placed: list[Placed]
) -> None:
    for each in placed:
        pod_states = [passed.state for passed in each.launch.progress.passed]
        assert len(each.launch.containers) == CONTAINERS
        for container in each.launch.containers.values():
            assert (*pod_states, *(passed.state for passed in container.progress.passed)) == LAUNCH_STATES
        assert each.launch.ignored == ()
        assert disagreements(cluster, each.pod.id) == []
        for port, expected in each.contents.items():
            assert eventually(lambda at=f"http://{each.address}:{port}/": fetched(at)) == expected


def fetched(url: str) -> bytes | None:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:
        return bytes(reply.read())
    return None


def test_no_process_of_a_pod_sees_or_holds_anything_of_another(placed: list[Placed]) -> None:
    for each in placed:
        others = {name for other in placed if other is not each for name in other.names}
        for pid in (each.agent_pid, *each.app_pids, *(child for app in each.app_pids for child in children(app))):
            proc = Path(f"/proc/{pid}")
            seen = (proc / "mountinfo").read_text() + (proc / "environ").read_bytes().decode()
            seen += "".join(str(link.readlink()) for link in (proc / "fd").iterdir())
            assert [name for name in others if name in seen] == []
        names = {path.name for path in inside(each.agent_pid, STORES).iterdir()}
        assert names == each.stores | {image_store_name(number) for number in range(1, CONTAINERS + 1)}
        assert {root_of_mount(app, STORE) for app in each.app_pids} == each.stores


def test_every_enclave_has_namespaces_of_its_own_and_shares_its_pods_network_only(placed: list[Placed]) -> None:
    enclaves = [pid for each in placed for pid in (each.agent_pid, *each.app_pids)]
    for kind in ("pid", "mnt"):
        assert len({namespace(pid, kind) for pid in (*enclaves, os.getpid())}) == len(enclaves) + 1
    networks = [{namespace(pid, "net") for pid in (each.agent_pid, *each.app_pids)} for each in placed]
    assert all(len(network) == 1 for network in networks)
    assert len(set.union(*networks)) == PODS


def test_a_pods_doors_and_agent_are_reached_from_within_the_pod_only(placed: list[Placed]) -> None:
    mine, theirs = placed[0], placed[1]
    for port in (BUS_DOOR, HTTP_DOOR, AGENT_PORT):
        assert in_network(mine.netns, lambda port=port: answers("127.0.0.1", port))
        assert not in_network(theirs.netns, lambda port=port: answers(mine.address, port))
        assert not answers(mine.address, port)


def answers(host: str, port: int) -> bool:
    async def connect() -> None:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()

    try:
        asyncio.run(connect())
    except (OSError, TimeoutError):
        return False
    return True


def test_a_pods_door_tells_nothing_of_anothers_containers_and_enrols_nobody_else(placed: list[Placed]) -> None:
    for mine, theirs in zip(placed, [*placed[1:], placed[0]], strict=True):
        own, other = next(iter(mine.launch.containers)), next(iter(theirs.launch.containers))
        assert in_network(mine.netns, lambda own=own: door.proposed_process(own))["process"]
        told = refused(mine, lambda other=other: door.proposed_process(other))
        assert Code.NOT_FOUND in told
        told = refused(mine, lambda mine=mine: door.enroll(door.Pod(mine.pod.id, "", ""), BusKey()))
        assert Code.INPUT in told


def refused(pod: Placed, act: Callable[[], object]) -> str:
    with pytest.raises(Permanent) as caught:
        in_network(pod.netns, act)
    return caught.value.diagnosis.got


def test_a_pods_bus_user_can_neither_read_nor_write_nor_take_what_is_anothers(
    cluster: Cluster, placed: list[Placed]
) -> None:
    before = {each.pod.id: len(cluster.histories()[each.pod.id]) for each in placed}
    for mine, theirs in zip(placed, [*placed[1:], placed[0]], strict=True):
        violations = in_network(
            mine.netns, lambda mine=mine, theirs=theirs: asyncio.run(tried_on_the_bus(cluster, mine.pod.id, theirs))
        )
        assert violations == {(kind, subject.lower()) for kind, subject in forbidden(theirs)}
    assert {each.pod.id: len(cluster.histories()[each.pod.id]) for each in placed} == before


def forbidden(theirs: Placed) -> set[tuple[str, str]]:
    """What the server must refuse to the user of any other pod: kind and subject, in its own words."""
    pod, history = theirs.pod.id, subjects.history(theirs.pod.id)
    publications = (
        history,
        subjects.pod_command(pod, "attest"),
        subjects.host_command("local", "teardown", pod),
        subjects.host_request("local", "signal"),
        f"$JS.API.CONSUMER.INFO.CMD.{subjects.pod_consumer(pod)}",
        f"$JS.API.CONSUMER.MSG.NEXT.CMD.{subjects.pod_consumer(pod)}",
        f"$JS.API.CONSUMER.DELETE.CMD.{subjects.pod_consumer(pod)}",
        f"$JS.ACK.CMD.{subjects.pod_consumer(pod)}.1.1.1.1.0",
        f"$JS.API.CONSUMER.CREATE.EV.pod-{pod}.{history}",
        f"$JS.API.CONSUMER.MSG.NEXT.EV.pod-{pod}",
        f"$JS.API.DIRECT.GET.EV.{history}",
        "$JS.API.STREAM.MSG.GET.EV",
    )
    subscriptions = (history, "ev.*.*", subjects.pod_commands(pod), f"{agent_inbox(pod)}.>", ">")
    return {(PUBLISH, s) for s in publications} | {(SUBSCRIBE, s) for s in subscriptions}


async def tried_on_the_bus(cluster: Cluster, mine: str, theirs: Placed) -> set[tuple[str, str]]:
    """As the user of pod `mine`, through its door: everything `forbidden`. What the server called a violation."""
    signer, key = AgentSigner.load(cluster.layout.root / "bus/agents.json"), BusKey()
    user = mint_agent_user(signer, key.nkey, mine)
    told: list[str] = []

    async def listen(error: Exception) -> None:
        told.append(str(error))

    client = Client()
    await client.connect(
        door.BUS_URL,
        tls=ssl.create_default_context(cadata=cluster.layout.ca.read_text()),
        user_jwt_cb=user.encode,
        signature_cb=key.answer,
        inbox_prefix=agent_inbox(mine).encode(),
        error_cb=listen,
    )
    try:
        # It is let in, and may ask what is its own: what follows is refused for whose it is.
        own = await client.request(f"$JS.API.CONSUMER.INFO.CMD.{subjects.pod_consumer(mine)}", timeout=5)
        assert json.loads(own.data)["config"]["filter_subject"] == subjects.pod_commands(mine)
        for kind, subject in forbidden(theirs):
            await (client.publish(subject, b"{}") if kind == PUBLISH else client.subscribe(subject))
        await settled(client)
        return {(kind, subject) for line in told for kind, subject in VIOLATION.findall(line)}
    finally:
        with suppress(nats.errors.Error):
            await client.close()


def test_an_agent_serves_no_enclave_that_was_started_for_anothers_container(
    cluster: Cluster, placed: list[Placed], tmp_path: Path
) -> None:
    mine, theirs = placed[0], placed[1]
    for named in (next(iter(theirs.launch.containers)), next(iter(mine.launch.containers))):  # and none twice
        ended = start_boot_init(cluster.layout, tmp_path, mine.sandbox_pid, named, store_of(cluster, theirs))
        assert ended.status != 0
        assert Code.CONFIG_USED in ended.said


def test_a_sealed_store_does_not_open_with_the_key_of_another_pods(cluster: Cluster, placed: list[Placed]) -> None:
    """The host puts another pod's store in the place of one that was just sealed."""
    stranger = store_of(cluster, placed[0])

    def swap(fact: Fact) -> None:
        assert isinstance(fact.body, FsSealed)
        place = cluster.layout.root / "state/stores" / fact.pod / fact.body.store
        link = place.with_name("swapped")
        os.link(stranger, link)
        link.replace(place)

    with Watch(cluster.stack, "swapped", lambda fact: isinstance(fact.body, FsSealed), swap) as watch:
        pod = cluster.kubelet.run_pod("swapped")
        container = cluster.kubelet.create_container(pod, ContainerSpec("c0", cluster.reference("many-0-0:1")))
        with pytest.raises(Permanent, match=Code.BOOT_STORE):
            cluster.kubelet.start_container(container)
    assert watch.acted
    failure = cluster.launch_of(pod.id).failure
    assert failure is not None
    assert (failure.state, failure.diagnosis.code) == (State.CONFIG_DELIVERED, Code.BOOT_STORE)
    assert cluster.kubelet.container_status(container).state is ContainerState.EXITED


def store_of(cluster: Cluster, pod: Placed) -> Path:
    return cluster.layout.root / "state/stores" / pod.pod.id / min(pod.stores)


def namespace(pid: int, kind: str) -> str:
    """Its identity, as the kernel spells it."""
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def children(pid: int) -> list[int]:
    """The processes below one, all of them."""
    below = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return below + [deeper for child in below for deeper in children(child)]


def inside(pid: int, path: str) -> Path:
    """A path as the process sees it."""
    return Path(f"/proc/{pid}/root{path}")


def root_of_mount(pid: int, point: str) -> str:
    """The name of the file that is mounted at `point` for the process."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return next(Path(line.split()[3]).name for line in lines if line.split()[4] == point)
