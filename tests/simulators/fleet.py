"""A cluster's worth of launches, as nodes and agents would have told them: every outcome, the same for the same seed.

Histories are real (`tests.simulators.history`): chained, signed, with quotes. Only their number is made up.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace

from orchestrator import events
from orchestrator.bus import Bus, subjects
from orchestrator.events import Body
from orchestrator.faults import Code
from orchestrator.launch import Launch, new
from orchestrator.lifecycle import Zone
from tests.simulators.history import (
    ENCLAVE_FACTS,
    MILLISECOND,
    EventKey,
    History,
    attested,
    container_requested,
    image_decrypted,
    pod_requested,
)

APPS = ("redis", "postgres", "vault-agent", "ledger", "matching", "risk-model", "gateway", "signer")
NAMESPACES = ("payments", "research", "identity")
REGISTRY = "registry.example:5000"

FAILURES = (
    (
        "decrypt_image",
        Code.IMAGE_ALTERED,
        "layer sha256:7d3a…91, check 3: the plaintext is not what its digest says",
        "sha256:7d3ac1a2f0e54b1c9f3be0d2a86d4f7e5c12b0a93e6f8d7c4b5a69788716f591",
        "sha256:02b9e1d7c3f4a5968778695a4b3c2d1e0f9e8d7c6b5a49382716051423324150",
        "what answers for the registry is not honest, its storage is damaged, or the image was made wrong",
        False,
    ),
    (
        "deliver_config",
        Code.CONFIG_PROCESS_DENIED,
        "the launch policy does not admit process.args[2]",
        "--appendonly yes",
        "--appendonly no",
        "change the pod, or let the owner add this to the image's rule in the launch policy",
        False,
    ),
    (
        "attest",
        Code.ATTEST_NOT_LISTED,
        "the owner's policy does not list this enclave",
        "a measurement listed as reference value sgx_mr_enclave",
        "9f2c6f5e8d554a0b9d571c9f7a5e0001b1a2c3d4e5f60718293a4b5c6d7e8f90",
        "after checking the build: enclave-cc kbs reference-value sgx_mr_enclave <measurement>...",
        False,
    ),
    (
        "decrypt_image",
        Code.IMAGE_REGISTRY_AWAY,
        f"{REGISTRY} is away",
        "an answer",
        "connection refused",
        "check that the registry runs, that its name resolves and that the proxy lets it through",
        True,
    ),
)
"""(transition, code, message, expected, got, advice, temporary): what nodes and agents really say."""


class Quick(History):
    """A history that is written without being folded at each step."""

    def __init__(self, pod: str, key: EventKey, began_ns: int) -> None:
        super().__init__(pod, key)
        self.now_ns = began_ns
        self._last = b""

    def say(  # type: ignore[override]  # the parts of `History.say` that a well-behaved writer needs
        self, body: Body, *, container: str = "", attempt: int = 0, after_ms: int = 10, zone: Zone | None = None
    ) -> Launch:
        zone = zone or (Zone.ENCLAVE if isinstance(body, ENCLAVE_FACTS) else Zone.HOST)
        self.now_ns += after_ms * MILLISECOND
        actor = f"agent/{self.pod[:16]}" if zone is Zone.ENCLAVE else self.actor
        fact = events.Fact(self.pod, body, zone, actor, container, attempt, self.now_ns)
        sign = self.key.sign if zone is Zone.ENCLAVE else None
        id_ = hashlib.sha256(f"{self.pod}/{len(self.raw)}".encode()).digest()[:16]
        raw = events.encode(fact, len(self.raw) + 1, self._last, sign, id_)
        self.raw.append(raw)
        self._last = hashlib.sha256(raw).digest()
        return new(self.pod)

    actor = "host-worker/node-a"


def histories(count: int, began_ns: int, seed: int = 1, brief: int = 0) -> Iterator[Quick]:
    """`count` launches, three seconds apart from `began_ns` on: ended, running, failed, the last ones under way.

    The first `brief` of them are pods that were removed before they had a sandbox: three messages each.
    """
    chance, key = random.Random(seed), EventKey()
    for number in range(count):
        pod = hashlib.sha256(f"{seed}/{number}".encode()).hexdigest()
        history = Quick(pod, key, began_ns + number * 3_000_000_000)
        if number < brief:
            yield _brief(history, chance, number)
        else:
            yield _one(history, chance, number, live=number >= count - 40)


def _asked(chance: random.Random, number: int) -> events.PodRequested:
    app, namespace, node = chance.choice(APPS), chance.choice(NAMESPACES), f"node-{chance.choice('abc')}"
    return replace(pod_requested(node), namespace=namespace, name=f"{app}-{number % 7}", uid=f"uid-{number}")


def _brief(history: Quick, chance: random.Random, number: int) -> Quick:
    asked = _asked(chance, number)
    history.actor = f"host-worker/{asked.node}"
    history.say(asked)
    history.stop()
    history.torn_down()
    return history


def _one(history: Quick, chance: random.Random, number: int, *, live: bool) -> Quick:
    asked = _asked(chance, number)
    app, namespace = asked.name.rpartition("-")[0], asked.namespace
    image = f"{REGISTRY}/{namespace}/{app}:{chance.randint(1, 9)}.{chance.randint(0, 20)}"
    container = hashlib.sha256(f"container of {history.pod}".encode()).hexdigest()
    history.actor = f"host-worker/{asked.node}"
    history.say(asked)
    history.say(
        events.SandboxCreated(history.pod, 4000 + number, f"/proc/{4000 + number}/ns/net"), attempt=1, after_ms=60
    )
    history.agent_up()
    fate, failure = chance.random(), chance.choice(FAILURES)
    if fate < 0.12 and failure[0] == "attest":
        return _fail(history, failure, "")
    history.say(attested(history.pod, history.key), attempt=1, after_ms=chance.randint(300, 700))
    history.say(replace(container_requested(container), image=image, name=app), container=container)
    if fate < 0.12 and failure[0] == "decrypt_image":
        return _fail(history, failure, container)
    if live and fate > 0.85:
        return history
    decrypted = replace(image_decrypted(), reference=image, key_ids=(f"kbs:///default/image-key/{app}",))
    history.say(decrypted, container=container, attempt=1, after_ms=chance.randint(400, 2400))
    history.sealed(container)
    history.start(container)
    if fate < 0.12:
        return _fail(history, failure, container)
    history.app_started(container)
    history.delivered(container)
    history.booted(container)
    if not live and fate < 0.9:
        history.exited(container, code=0 if fate < 0.8 else 137)
        history.stop()
        history.torn_down()
    return history


def _fail(history: Quick, failure: tuple[str, Code, str, str, str, str, bool], container: str) -> Quick:
    transition, code, message, expected, got, advice, temporary = failure
    body = events.StepFailed(transition, code, message, expected, got, advice, temporary)
    zone = Zone.ENCLAVE if transition != "attest" else Zone.HOST
    for attempt in range(1, 6 if temporary else 2):
        history.say(body, container=container, attempt=attempt, after_ms=400 * attempt, zone=zone)
    history.torn_down(container)
    return history


async def publish(bus: Bus, many: list[Quick]) -> None:
    """Store them, and wait until all are."""
    total = sum(len(history.raw) for history in many)
    before = (await bus.stream.stream_info(subjects.EVENTS)).state.messages
    for history in many:
        for raw in history.raw:
            await bus.client.publish(subjects.history(history.pod), raw)
    await bus.client.flush(60)
    while (await bus.stream.stream_info(subjects.EVENTS)).state.messages < before + total:
        await bus.client.flush()
