"""An operator's orders on a whole stack: what failed and was held goes on, a launch is made again beside itself.

Nothing of the broken world is made up: the broker has no key of the image's, lists another enclave, or has not been
told what may run; the agent was killed. The operator mends it and types the command.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.kbs.state import RESOURCES
from deploy.local import images
from deploy.publish.publication import Published
from orchestrator import events
from orchestrator.bus import Histories, connect
from orchestrator.bus.operator_key import OperatorKey
from orchestrator.events import Fact, Foreign, Recorded, ResumeRequested
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch
from orchestrator.lifecycle import LAUNCH_STATES, State, Zone
from tests.e2e import victims
from tests.e2e.cluster import WEB, Cluster, Launched, fetch
from tests.e2e.ordering import WHY, Launcher, facts, launching, typed, until_held
from tests.e2e.victims import Victim
from tests.e2e.watch import Watch
from tests.waiting import eventually
from workers.enclave.kbs import ResourceUri

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]  # the first test makes the stack and its images

CONTENT, OTHER_CONTENT = b"it goes on\n", b"another image\n"
OTHER_COMMAND = ("/bin/busybox", "httpd", "-f", "-v", "-p", "8080", "-h", "/www")
NOBODY = "00" * 32
SIGNATURE = slice(436, 500)
"""Where the quote's own ECDSA signature lies in a DCAP quote v3 (Intel SGX ECDSA quote library reference, A.4)."""

STEPS = (
    events.PodRequested,
    events.SandboxCreated,
    events.AgentUp,
    events.Attested,
    events.ContainerRequested,
    events.ImageDecrypted,
    events.FsSealed,
    events.StartRequested,
    events.AppStarted,
    events.ConfigDelivered,
    events.AppBooted,
)


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster with two images, and what its owner can break and mend."""

    cluster: Cluster
    launcher: Launcher
    image: Published
    other: str

    @contextmanager
    def key_unknown(self) -> Iterator[None]:
        """The broker has no key of the image's: containers fail in decrypt_image, at once."""
        uri, home = ResourceUri.parse(self.image.kids[0]), self.cluster.owner.home
        material = (home / "state" / RESOURCES / uri.repository / uri.type / uri.tag).read_bytes()
        with closing(self.cluster.owner.admin()) as owner:
            owner.delete_resource(uri)
            try:
                yield
            finally:
                owner.put_resource(uri, material)

    @contextmanager
    def agent_unlisted(self) -> Iterator[None]:
        """The owner lists another agent: pods fail in attest, at once."""
        with closing(self.cluster.owner.admin()) as owner:
            listed = owner.reference_value("sgx_mr_enclave")
            owner.set_reference_value("sgx_mr_enclave", [NOBODY])
            try:
                yield
            finally:
                owner.set_reference_value("sgx_mr_enclave", listed)

    def history(self, pod: str) -> list[Recorded | Foreign]:
        return self.cluster.histories()[pod]


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    image = cluster.owner.publish(str(images.busybox({"www/index.html": CONTENT}, command=WEB)), "resumed:1")
    other = cluster.publish_web("other:1", OTHER_CONTENT)
    for reference in (cluster.reference("resumed:1"), other):
        cluster.kubelet.pull(reference)
    with launching(cluster, cluster.reference("resumed:1")) as launcher:
        yield Site(cluster, launcher, image, other)


def booted(site: Site, launched: Launched) -> Launch:
    """What has gone on: seven states, nothing passed over, and a workload that answers as if nothing had been."""
    launch = site.cluster.launch_of(launched.pod.id)
    container = launch.containers[launched.containers[0]]
    passed = (*launch.progress.passed, *container.progress.passed)
    assert tuple(entry.state for entry in passed) == LAUNCH_STATES
    assert launch.ignored == ()
    assert launch.failure is None
    address = site.cluster.kubelet.pod_status(launched.pod).ip
    assert eventually(lambda: fetch(f"http://{address}:8080/")) == CONTENT
    return launch


def gone(site: Site, pod: str) -> None:
    """Nothing is left of it."""
    eventually(lambda: site.cluster.launch_of(pod).progress.state is State.GONE)
    assert site.cluster.traces(pod) == []


def orders(site: Site, pod: str) -> list[Recorded]:
    return facts(site.history(pod), ResumeRequested)


def fresh(history: list[Recorded | Foreign]) -> list[object]:
    """Everything in a history that may be used once only: tokens, keys, quotes, sealed stores, messages' ids."""
    values: list[object] = []
    for message in history:
        if not isinstance(message, Recorded):
            continue
        body = message.fact.body
        values.append(message.id)
        if isinstance(body, events.Attested):
            values += [
                body.token_sha256,
                body.event_public_key,
                hashlib.sha256(body.quote).digest(),
                body.quote[SIGNATURE],
            ]
        if isinstance(body, events.FsSealed):
            values += [body.root_hash, body.store]
        if isinstance(body, events.AppStarted):
            values.append((body.runc_id, message.fact.attempt))
        if message.signature:
            values.append(message.signature)
    return values


def tokens(site: Site) -> list[str]:
    """Every token that the broker has issued, by its own log."""
    lines = (site.cluster.layout.logs / "kbs.log").read_text().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return [one["token_sha256"] for one in told if one.get("event") == "attested"]


# --- resume -----------------------------------------------------------------------------------------------------------


def test_a_container_goes_on_when_the_owner_has_put_the_policy(site: Site) -> None:
    cluster, policy = site.cluster, site.cluster.owner.policies
    held = site.launcher.launch("policy", command=OTHER_COMMAND)
    launch = until_held(cluster, held.id)
    assert launch.failure is not None
    assert launch.failure.diagnosis.code is Code.CONFIG_PROCESS_DENIED
    assert not held.launched.done()
    described = typed(cluster, "describe", held.id).out
    assert "held      until " in described
    before, issued = cluster.kubelet.pods(), tokens(site)
    document = json.loads(policy.launch_policy.read_text())
    repository = cluster.reference("resumed")
    document["rules"].append({**document["rules"][0], "image": repository, "args": list(OTHER_COMMAND)})
    policy.launch_policy.write_text(json.dumps(document))
    with closing(cluster.owner.admin()) as broker:
        policy.put(broker)
    shown = typed(cluster, "resume", held.id[:8], *WHY)
    assert shown.code == 0, shown.err
    assert "goes on with decrypt_image" in shown.out
    launched = held.launched.result(60)
    booted(site, launched)
    history = site.history(held.id)
    assert (len(facts(history, events.Attested)), len(facts(history, events.FsSealed))) == (1, 2)
    assert max(Counter(fresh(history)).values()) == 1
    assert len(tokens(site)) > len(issued), "the agent has proved itself to the broker again"
    assert max(Counter(tokens(site)).values()) == 1
    assert cluster.kubelet.pods() == before
    cluster.remove(held.id)
    gone(site, held.id)


@pytest.mark.parametrize(("start", "step", "agents"), [("agent-up", "attest", 1), ("sandbox", "launch_agent", 2)])
def test_a_pod_goes_on_when_its_agent_is_listed_with_that_agent_or_another(
    site: Site, start: str, step: str, agents: int
) -> None:
    with site.agent_unlisted():
        held = site.launcher.launch(f"unlisted-{agents}")
        launch = until_held(site.cluster, held.id)
    assert launch.failure is not None
    assert (launch.failure.transition, launch.failure.diagnosis.code) == ("attest", Code.ATTEST_NOT_LISTED)
    shown = typed(site.cluster, "resume", f"default/unlisted-{agents}", "--from", start, *WHY)
    assert shown.code == 0, shown.err
    assert f"goes on with {step}" in shown.out
    booted(site, held.launched.result(60))
    history = site.history(held.id)
    assert (len(facts(history, events.SandboxCreated)), len(facts(history, events.AgentUp))) == (1, agents)
    assert max(Counter(fresh(history)).values()) == 1


def test_a_pod_that_lost_its_agent_goes_on_with_another_that_has_nothing_of_the_first(site: Site) -> None:
    def kill(fact: Fact) -> None:
        victims.kill(victims.agent_of(site.cluster, fact.pod))

    with Watch(site.cluster.stack, "bereft", lambda fact: isinstance(fact.body, events.ImageDecrypted), kill):
        held = site.launcher.launch("bereft")
        launch = until_held(site.cluster, held.id)
    assert launch.failure is not None
    assert launch.failure.diagnosis.code is Code.AGENT_LOST
    assert typed(site.cluster, "resume", held.id, *WHY).code == 0
    launch = booted(site, held.launched.result(60))
    history = site.history(held.id)
    assert len(facts(history, events.Attested)) == len(facts(history, events.AgentUp)) == 2
    assert max(Counter(fresh(history)).values()) == 1
    assert [agent.event_public_key for agent in launch.formerly] != [
        launch.attested and launch.attested.event_public_key
    ]
    verified = typed(site.cluster, "verify", held.id).out
    assert "keys, which their quotes bind" in verified
    assert "1 orders were signed by operators whom the launch names: operator/alice" in verified
    signed = [
        one for one in typed(site.cluster, "events", held.id, "--json").document["events"] if one["zone"] == "enclave"
    ]
    assert {one["signature"] for one in signed} == {"ok"}


def test_all_that_failed_alike_go_on_by_one_order_each_and_none_by_a_dry_run(site: Site) -> None:
    with site.key_unknown():
        helds = [site.launcher.launch(f"batch-{number}") for number in range(3)]
        for held in helds:
            until_held(site.cluster, held.id)
    batch = ("resume", "--all", "--failed-at", "attested", "--code", "E-KEY-001", *WHY, "--json")
    before = {pod: len(history) for pod, history in site.cluster.histories().items()}
    dry = typed(site.cluster, *batch, "--dry-run").document["resumed"]
    assert {one["pod"] for one in dry} == {held.id for held in helds}
    assert {(one["goes_on_with"], one["ordered"]) for one in dry} == {("decrypt_image", False)}
    assert {pod: len(history) for pod, history in site.cluster.histories().items()} == before
    ordered = typed(site.cluster, *batch).document["resumed"]
    assert {(one["pod"], one["ordered"]) for one in ordered} == {(held.id, True) for held in helds}
    for held in helds:
        booted(site, held.launched.result(60))
        assert len(orders(site, held.id)) == 1
    again = typed(site.cluster, *batch)
    assert (again.code, again.document["resumed"]) == (0, [])


# --- who may order ----------------------------------------------------------------------------------------------------


def test_nobody_but_an_operator_whom_the_launch_names_gives_orders(site: Site) -> None:
    cluster, layout = site.cluster, site.cluster.layout
    with site.key_unknown():
        held = site.launcher.launch("coveted")
        launch = until_held(cluster, held.id)
    (container,) = launch.containers
    for words in (("resume", held.id), ("resume", held.id, "--reason", " ")):
        assert typed(cluster, *words).code == 2
    for role, order in (("reader", "resume"), ("worker", "fork"), ("shim", "stop")):  # by the launch's word
        config = layout.root / f"{role}-orders.toml"
        config.write_text(layout.operator_config.read_text().replace("operator", role))
        shown = typed(cluster, order, held.id, *WHY, config=config)
        assert (shown.code, shown.err.split(":")[0]) == (1, Code.NOT_ALLOWED)
    asyncio.run(forge(site, held.id, container))
    after = cluster.launch_of(held.id)
    assert after.progress == launch.progress
    assert after.containers == launch.containers
    assert [entry.why for entry in after.ignored] == [
        "the signature does not verify under the operator's key",
        "its signer is no operator whom this launch names",
    ] * 2
    assert "[its signer is no operator" in typed(cluster, "events", held.id).out
    assert typed(cluster, "resume", held.id, *WHY).code == 0
    assert held.launched.result(60).pod.id == held.id


async def forge(site: Site, pod: str, container: str) -> None:
    """What whoever may append can write without the operator's key; a reader can write nothing, even with it."""
    layout, stack = site.cluster.layout, site.cluster.stack
    operator = OperatorKey.load(layout.credentials("operator"))
    own = Ed25519PrivateKey.generate()
    theirs = ResumeRequested("", "says the host", "alice", operator.public)
    mine = replace(theirs, operator=own.public_key().public_bytes_raw())
    for role in ("worker", "shim"):
        async with await connect(stack.credentials(role), role) as bus:
            for body in (theirs, mine):
                fact = Fact(pod, body, Zone.HOST, f"{role}/forged", container)
                assert await Histories(bus).append(fact, sign=own.sign) is not None
    async with await connect(stack.credentials("reader"), "reader") as bus:
        with pytest.raises(Permanent) as refused:
            await Histories(bus).append(Fact(pod, theirs, Zone.HOST, "reader/forged", container), sign=operator.sign)
    assert refused.value.code is Code.NOT_ALLOWED
    assert refused.value.diagnosis.got == "a permissions violation"


# --- fork and stop ----------------------------------------------------------------------------------------------------


def test_a_fork_runs_beside_the_other_and_is_stopped_without_a_trace(site: Site) -> None:
    cluster = site.cluster
    launched = site.launcher.launch("parent").launched.result(60)
    parent = booted(site, launched)
    at = facts(site.history(parent.pod), events.StartRequested)[0].index
    made = typed(cluster, "fork", parent.pod, "--at", str(at), "--set", f"image={site.other}", *WHY, "--json")
    assert made.code == 0, made.err
    fork = made.document["pod"]
    assert typed(cluster, "follow", fork, "--until-settled").code == 0
    forked = cluster.launch_of(fork)
    (container,) = forked.containers.values()
    assert container.started is not None
    assert inside(container.started.pid) == OTHER_CONTENT
    both = fresh(site.history(parent.pod)) + fresh(site.history(fork))
    assert max(Counter(both).values()) == 1
    assert cluster.traces(fork)
    assert fork not in cluster.kubelet.pods()
    stopped = typed(cluster, "stop", "default/parent.fork", *WHY)
    assert stopped.code == 0, stopped.err
    gone(site, fork)
    assert booted(site, launched) == parent, "the other one has noticed nothing"


def test_what_failed_is_tried_with_another_image_and_given_up(site: Site) -> None:
    cluster = site.cluster
    with site.key_unknown():
        held = site.launcher.launch("what-if")
        until_held(cluster, held.id)
        made = typed(cluster, "fork", held.id, "--set", f"image={site.other}", "--set", "hold=0", *WHY, "--json")
        assert made.code == 0, made.err
        fork = made.document["pod"]
        assert typed(cluster, "follow", fork, "--until-settled").code == 0
    for pod in (fork, held.id):
        assert typed(cluster, "stop", pod, *WHY).code == 0
    with pytest.raises(Permanent, match=Code.KEY_UNKNOWN):
        held.launched.result(60)
    cluster.remove(held.id)
    gone(site, fork)
    gone(site, held.id)


def inside(pid: int) -> bytes | None:
    """What a workload answers on the loopback of a pod that has no other network."""
    asking = ["nsenter", "-n", "-t", str(pid), "/usr/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/"]

    def ask() -> bytes | None:
        return subprocess.run(asking, capture_output=True, timeout=10, check=False).stdout or None

    return eventually(ask)


# --- where an order is seen -------------------------------------------------------------------------------------------


def test_every_order_is_in_events_show_describe_and_the_audit_log_with_who_and_why(site: Site) -> None:
    cluster = site.cluster
    with site.key_unknown():
        held = site.launcher.launch("ordered")
        until_held(cluster, held.id)
        fork = typed(cluster, "fork", held.id, "--json", *WHY).document["pod"]
    for order in ("resume", "stop"):
        assert typed(cluster, order, held.id, *WHY).code == 0
    for pod, what in ((held.id, ("resume with decrypt_image", "stop")), (fork, (f"fork of pod {held.id}",))):
        for command in ("show", "describe"):
            shown = typed(cluster, command, pod).out
            assert "by operator/alice" in shown
            assert "the owner has mended it" in shown
            assert [one for one in what if one not in shown] == []
        listed = [
            one for one in typed(cluster, "events", pod, "--json").document["events"] if "operator" in one["actor"]
        ]
        assert [one["signature"] for one in listed if one["kind"] != "stop-requested"] == ["ok"]
        assert {one["body"]["reason"] for one in listed} == {"the owner has mended it"}

    def logged() -> list[dict[str, object]]:
        words = ("--actor", "operator/alice", "--launch", held.id, "--launch", fork, "--json")
        found = [json.loads(line) for line in typed(cluster, "audit", "search", *words).out.splitlines()]
        return found if len(found) == 3 else []

    found = eventually(logged)
    assert [one["kind"] for one in found] == ["forked-from", "resume-requested", "stop-requested"]
    entry = typed(cluster, "audit", "show", str(found[1]["index"])).out
    assert "operator/alice" in entry
    assert "the owner has mended it" in entry
    # A fork that still decrypts when the next test takes the key away would be one more that is held.
    assert typed(cluster, "stop", fork, *WHY).code == 0
    gone(site, fork)


# --- whoever dies meanwhile -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [victim for victim in Victim if victim.is_of_the_stack], ids=str)
def test_an_order_is_followed_once_whoever_is_killed_when_it_is_given(site: Site, victim: Victim) -> None:
    cluster, name = site.cluster, f"{victim}-dies"
    with site.key_unknown():
        helds = [site.launcher.launch(f"{name}-{number}") for number in range(3)]
        for held in helds:
            until_held(cluster, held.id)
    with struck(site, victim, f"{name}-0", ResumeRequested, helds[0].id):
        assert typed(cluster, "resume", helds[0].id, *WHY).code == 0
    with struck(site, victim, f"{name}-1", ResumeRequested, helds[1].id):
        shown = typed(cluster, "resume", "--all", "--code", "E-KEY-001", *WHY, "--json")
    assert shown.code == 0, shown.err
    assert {one["pod"] for one in shown.document["resumed"]} == {helds[1].id, helds[2].id}
    for held in helds:
        booted(site, held.launched.result(90))
        assert told(site, held.id) == {**dict.fromkeys(STEPS, 1), ResumeRequested: 1}
    with struck(site, victim, f"{name}-0.fork", events.PodRequested):
        made = typed(cluster, "fork", helds[0].id, *WHY, "--json")
    assert made.code == 0, made.err
    fork = made.document["pod"]
    eventually(lambda: cluster.launch_of(fork).state is State.APP_BOOTED)
    assert told(site, fork) == {**dict.fromkeys(STEPS, 1), events.ForkedFrom: 1}
    assert cluster.launch_of(fork).ignored == ()
    victims.kill(victims.pids_of_the_stack(cluster)[victim])
    eventually(lambda: typed(cluster, "stop", fork, *WHY).code == 0)  # typed again by who is told to try again
    gone(site, fork)
    assert len(facts(site.history(fork), events.StopRequested)) == 1
    for held in helds:
        cluster.remove(held.id)
        gone(site, held.id)


@contextmanager
def struck(site: Site, victim: Victim, name: str, kind: type, pod: str = "") -> Iterator[None]:
    """`kill -9` of the victim as soon as a fact of this kind is stored; afterwards it is there again."""
    pid = victims.pids_of_the_stack(site.cluster)[victim]
    watch = Watch(site.cluster.stack, name, lambda fact: isinstance(fact.body, kind), lambda _: victims.kill(pid))
    watch.pod = pod
    with watch:
        yield
        eventually(lambda: watch.acted)
    eventually(lambda: all(one.ready and one.pid != pid for one in site.cluster.stack.status()))


def told(site: Site, pod: str) -> dict[type, int]:
    """How often what was asked and done is told of the pod; failures, which nobody asked for, are not counted."""
    counted = Counter(type(m.fact.body) for m in site.history(pod) if isinstance(m, Recorded))
    return {kind: count for kind, count in counted.items() if kind is not events.StepFailed}
