"""Who was seen at work and what was judged, counted as the facts come.

Zone: host. May import: `orchestrator.{events,faults,launch,lifecycle}`. Pure.

Everything here is what facts say: a node that has said nothing is not known, and one that has fallen silent is shown
with the time of its last word, not guessed to be down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from orchestrator import events
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code
from orchestrator.launch import Launch
from orchestrator.lifecycle import Zone


@dataclass(slots=True)
class Worker:
    """A process that stated facts of the host zone: `kind/where`, as it names itself. Times in nanoseconds."""

    actor: str
    facts: int = 0
    failures: int = 0
    first_ns: int = 0
    last_ns: int = 0
    last_kind: str = ""

    @property
    def role(self) -> str:
        """What it is: `host-worker`, `shim`, `orchestrator`."""
        return self.actor.partition("/")[0]

    @property
    def where(self) -> str:
        """The node or machine that it names."""
        return self.actor.partition("/")[2].partition("/")[0]


@dataclass(slots=True)
class Node:
    """What a node was seen with: the enclave bundles that its agents were started from, by their measurement."""

    name: str
    last_ns: int = 0
    measurements: dict[str, int] = field(default_factory=dict)
    libos: set[str] = field(default_factory=set)
    simulated: int = 0


@dataclass(slots=True)
class Judged:
    """How often one policy said one thing, and of which pod it last did.

    A refusal has its fault's code for `verdict` and the last one's message in `last_refusal`; which policy refused is
    in that message, as the enforcing code put it.
    """

    about: str
    policy: str
    verdict: str
    count: int = 0
    last_ns: int = 0
    last_pod: str = ""
    last_refusal: str = ""


_REFUSALS: Final = frozenset(
    {
        Code.AGENT_INIT_DATA,
        Code.ATTEST_NOT_LISTED,
        Code.ATTEST_DEBUG,
        Code.ATTEST_TCB,
        Code.KEY_DENIED,
        Code.IMAGE_NOT_ENCRYPTED,
        Code.SIGNATURE_MISSING,
        Code.SIGNATURE_WRONG,
        Code.SIGNATURE_POLICY,
        Code.CONFIG_PROCESS_DENIED,
        Code.CONFIG_APP_MEASUREMENT,
        Code.CONFIG_POLICY,
    }
)
"""Codes that say "the owner's policy refused", as opposed to a part that did not work."""

_ABOUT: Final = {"attest": "enclave", "decrypt_image": "image", "deliver_config": "process"}
"""What is judged in which step."""


class Tally:
    """Counts over all launches. Give it every message that the fold took, with the launch before and after."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self.nodes: dict[str, Node] = {}
        self.judged: dict[tuple[str, str, str], Judged] = {}

    def take(self, before: Launch, after: Launch, message: Recorded | Foreign) -> None:
        """One message. What the fold passed over is not counted: a forgery must not make a node or a verdict."""
        if isinstance(message, Foreign) or len(after.ignored) > len(before.ignored):
            return
        fact, body = message.fact, message.fact.body
        if fact.zone is Zone.HOST:
            self._take_worker(message)
        node = self._node(after, fact.at_ns)
        if node is not None and isinstance(body, events.AgentUp):
            node.measurements[body.measurement] = node.measurements.get(body.measurement, 0) + 1
            node.libos.add(body.libos)
        elif node is not None and isinstance(body, events.Attested):
            node.simulated += body.simulated
        self._take_verdict(message)

    def _take_worker(self, message: Recorded) -> None:
        fact = message.fact
        worker = self.workers.setdefault(fact.actor, Worker(fact.actor, first_ns=fact.at_ns))
        worker.facts += 1
        worker.failures += isinstance(fact.body, events.StepFailed)
        if fact.at_ns >= worker.last_ns:
            worker.last_ns, worker.last_kind = fact.at_ns, events.kind(fact.body)

    def _node(self, launch: Launch, at_ns: int) -> Node | None:
        if launch.requested is None:
            return None
        node = self.nodes.setdefault(launch.requested.node, Node(launch.requested.node))
        node.last_ns = max(node.last_ns, at_ns)
        return node

    def _take_verdict(self, message: Recorded) -> None:
        body = message.fact.body
        if isinstance(body, events.Attested):
            claim = f"affirmed: TCB {body.tcb_status}{', simulated' if body.simulated else ''}"
            self._judge("enclave", body.kbs, claim, message)
        elif isinstance(body, events.ImageDecrypted):
            self._judge("image", body.policy, body.verdict, message)
        elif isinstance(body, events.ConfigDelivered):
            self._judge("process", "launch policy", body.verdict, message)
        elif isinstance(body, events.StepFailed) and body.code in _REFUSALS:
            # One line a code: its message names the image, and there may be as many as there were launches.
            self._judge(_ABOUT.get(body.transition, body.transition), "", body.code, message, refusal=body.message)

    def _judge(self, about: str, policy: str, verdict: str, message: Recorded, refusal: str = "") -> None:
        judged = self.judged.setdefault((about, policy, verdict), Judged(about, policy, verdict))
        judged.count += 1
        judged.last_ns = max(judged.last_ns, message.fact.at_ns)
        judged.last_pod, judged.last_refusal = message.fact.pod, refusal
