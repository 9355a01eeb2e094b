"""Histories as a node and an agent would write them: a real chain, real Ed25519 signatures, a well-formed quote.

The one thing that is not genuine is the quote's own signature: no CPU made it. What looks at quotes that closely
(`orchestrator.verify`) is tested with the simulated CPU instead.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator import events
from orchestrator.events import Body, Fact, Foreign, Recorded
from orchestrator.faults import Code
from orchestrator.fold import fold
from orchestrator.launch import Launch
from orchestrator.lifecycle import Zone
from schemas.sgx import Attributes, Flags, ReportBody

POD = "a1b2c3d4" * 8
APP = "0f" * 32
SIDECAR = "1e" * 32
OTHER_POD = "b2c3d4e5" * 8
NODE = "node-a"
MEASUREMENT = hashlib.sha256(b"agent").digest()
APP_MEASUREMENT = hashlib.sha256(b"boot init").hexdigest()
START_NS = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z."""

MILLISECOND = 1_000_000
ENCLAVE_FACTS = (
    events.Attested,
    events.ImageDecrypted,
    events.FsSealed,
    events.ConfigDelivered,
    events.AppBooted,
    events.ExecAdmitted,
    events.ExecRefused,
)
_HEADER = struct.pack("<HHIHH", 3, 2, 0, 8, 13) + bytes.fromhex("939a7233f79c4ca9940a0db3957f0607") + bytes(20)


def quote(pod: str, public_key: bytes, measurement: bytes = MEASUREMENT) -> bytes:
    """A DCAP quote v3 whose report data binds the key to the pod; signed by nobody."""
    body = ReportBody(
        mrenclave=measurement,
        mrsigner=bytes(32),
        attributes=Attributes(Flags.INIT | Flags.MODE64BIT, 3),
        report_data=events.event_key_binding(pod, public_key).ljust(64, b"\0"),
    )
    return _HEADER + body.encode() + struct.pack("<I", 0)


@dataclass
class EventKey:
    """An agent's event key."""

    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)


OPERATOR = EventKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"operator").digest()))
"""Who may resume and fork the launches that ask for a hold."""


class History:
    """One pod's history in the making. Every method appends one message and returns the launch after it."""

    def __init__(self, pod: str = POD, key: EventKey | None = None) -> None:
        self.pod = pod
        self.key = key or EventKey()
        self.raw: list[bytes] = []
        self.now_ns = START_NS

    # --- any message ---------------------------------------------------------------------------------------------

    def say(
        self,
        body: Body,
        *,
        container: str = "",
        attempt: int = 0,
        zone: Zone | None = None,
        sign: Callable[[bytes], bytes] | None = None,
        signed: bool = True,
        after_ms: int = 10,
        pod: str | None = None,
        index: int | None = None,
        previous: bytes | None = None,
    ) -> Launch:
        """Append a fact. Whatever is not said is what an honest writer would say."""
        zone = zone or (Zone.ENCLAVE if isinstance(body, ENCLAVE_FACTS) else Zone.HOST)
        self.now_ns += after_ms * MILLISECOND
        actor = f"agent/{self.pod[:16]}" if zone is Zone.ENCLAVE else f"host-worker/{NODE}"
        fact = Fact(self.pod if pod is None else pod, body, zone, actor, container, attempt, self.now_ns)
        signer = sign or (self.key.sign if zone is Zone.ENCLAVE else None)
        signer = signer if signed else None
        last = self.raw[-1] if self.raw else None
        head = self._head if previous is None else previous
        number = self._index + 1 if index is None else index
        # Derived from the position, so that a generated history is the same bytes each time.
        id_ = hashlib.sha256(f"{self.pod}/{len(self.raw)}".encode() + (last or b"")).digest()[:16]
        self.raw.append(events.encode(fact, number, head, signer, id_))
        return self.launch()

    def garbage(self, raw: bytes) -> Launch:
        """Append bytes that are no fact."""
        self.raw.append(raw)
        return self.launch()

    def records(self) -> list[Recorded | Foreign]:
        """As read from the stream: sequences from 1."""
        return [events.read(sequence, raw) for sequence, raw in enumerate(self.raw, 1)]

    def launch(self) -> Launch:
        """The fold of all."""
        return fold(self.pod, self.records())

    @property
    def _facts(self) -> list[Recorded]:
        return [record for record in self.records() if isinstance(record, Recorded)]

    @property
    def _index(self) -> int:
        return len(self._facts)

    @property
    def _head(self) -> bytes:
        return self._facts[-1].digest if self._facts else b""

    # --- what happens in a launch --------------------------------------------------------------------------------

    def requested(self, hold_seconds: int = 0) -> Launch:
        operators = (OPERATOR.public,) if hold_seconds else ()
        return self.say(replace(pod_requested(), hold_seconds=hold_seconds, operators=operators))

    def resume(self, container: str = "", start: str = "", operator: EventKey | None = None) -> Launch:
        key = operator or OPERATOR
        body = events.ResumeRequested(start, "the key broker is back", "alice", key.public)
        return self.say(body, container=container, sign=key.sign)

    def forked(self, pod: str = OTHER_POD, index: int = 4, operator: EventKey | None = None) -> Launch:
        key = operator or OPERATOR
        digest = hashlib.sha256(pod.encode()).digest()
        body = events.ForkedFrom(pod, index, digest, ("image=other",), "what if", "alice", key.public)
        return self.say(body, sign=key.sign)

    def sandboxed(self, attempt: int = 1) -> Launch:
        body = events.SandboxCreated(runc_id=self.pod, pid=4001, netns="/proc/4001/ns/net")
        return self.say(body, attempt=attempt)

    def agent_up(self, attempt: int = 1) -> Launch:
        return self.say(agent_up(self.pod), attempt=attempt)

    def attested(self, attempt: int = 1) -> Launch:
        return self.say(attested(self.pod, self.key), attempt=attempt)

    def container(self, id_: str = APP) -> Launch:
        return self.say(container_requested(id_), container=id_)

    def decrypted(self, id_: str = APP, attempt: int = 1) -> Launch:
        return self.say(image_decrypted(), container=id_, attempt=attempt, after_ms=850)

    def sealed(self, id_: str = APP, attempt: int = 1) -> Launch:
        body = events.FsSealed(root_hash="cd" * 32, files=1234, bytes=46_000_000, store=f"{id_}.store")
        return self.say(body, container=id_, attempt=attempt, after_ms=120)

    def start(self, id_: str = APP) -> Launch:
        return self.say(events.StartRequested(), container=id_)

    def app_started(self, id_: str = APP, attempt: int = 1) -> Launch:
        body = events.AppStarted(runc_id=id_, pid=4003, measurement=APP_MEASUREMENT)
        return self.say(body, container=id_, attempt=attempt)

    def delivered(self, id_: str = APP, attempt: int = 1) -> Launch:
        body = events.ConfigDelivered(config_sha256="ef" * 32, verdict="allowed", measurement=APP_MEASUREMENT)
        return self.say(body, container=id_, attempt=attempt)

    def booted(self, id_: str = APP, attempt: int = 1) -> Launch:
        body = events.AppBooted(nanoseconds=41_000_000, process=7)
        return self.say(body, container=id_, attempt=attempt, after_ms=45)

    def exec_admitted(self, id_: str = APP, times: int = 1) -> Launch:
        args = ("/bin/health", "*")
        return self.say(events.ExecAdmitted("a" * 64, "web/health", args, False, times), container=id_)

    def exec_refused(self, id_: str = APP, times: int = 1) -> Launch:
        body = events.ExecRefused("b" * 64, Code.EXEC_DENIED.value, "no rule admits it", times)
        return self.say(body, container=id_)

    def exited(self, id_: str = APP, code: int = 0, *, out_of_memory: bool = False) -> Launch:
        return self.say(events.Exited(code, self.now_ns, out_of_memory), container=id_)

    def stop(self, id_: str = "", reason: str = "removed by containerd") -> Launch:
        return self.say(events.StopRequested(reason), container=id_)

    def torn_down(self, id_: str = "", attempt: int = 1) -> Launch:
        return self.say(events.TornDown((f"pause {self.pod}",)), container=id_, attempt=attempt)

    def agent_lost(self, code: int = 137) -> Launch:
        return self.say(events.AgentLost(code))

    def failed(
        self, transition: str, *, container: str = "", attempt: int = 1, temporary: bool = False, **fact: object
    ) -> Launch:
        body = step_failed(transition, temporary=temporary)
        return self.say(body, container=container, attempt=attempt, **fact)  # type: ignore[arg-type]

    # --- stretches of it -----------------------------------------------------------------------------------------

    def up_to_attested(self, hold_seconds: int = 0) -> Launch:
        """The pod's three states."""
        self.requested(hold_seconds)
        for step in (self.sandboxed, self.agent_up, self.attested):
            step()
        return self.launch()

    def up_to_sealed(self, id_: str = APP) -> Launch:
        """The pod, and a container whose filesystem is ready."""
        if self.launch().requested is None:
            self.up_to_attested()
        for step in (self.container, self.decrypted, self.sealed):
            step(id_)
        return self.launch()

    def up_to_booted(self, id_: str = APP) -> Launch:
        """A whole launch."""
        self.up_to_sealed(id_)
        for step in (self.start, self.app_started, self.delivered, self.booted):
            step(id_)
        return self.launch()


# --- the bodies -----------------------------------------------------------------------------------------------------


def pod_requested(node: str = NODE) -> events.PodRequested:
    return events.PodRequested(
        node=node,
        namespace="payments",
        name="redis-0",
        uid="2f1c6f5e-8d55-4a0b-9d57-1c9f7a5e0001",
        bundle=f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{POD}",
        init_data_sha256="9a" * 32,
    )


def agent_up(pod: str = POD) -> events.AgentUp:
    return events.AgentUp(
        runc_id=f"{pod}-agent", pid=4002, libos="sim", bundle_sha256="ab" * 32, measurement=MEASUREMENT.hex()
    )


def attested(pod: str, key: EventKey, measurement: bytes = MEASUREMENT) -> events.Attested:
    return events.Attested(
        quote=quote(pod, key.public, measurement),
        measurement=measurement.hex(),
        tcb_status="UpToDate",
        simulated=True,
        token_sha256="77" * 32,
        event_public_key=key.public,
        kbs="https://127.0.0.1:8443",
    )


def container_requested(id_: str = APP) -> events.ContainerRequested:
    return events.ContainerRequested(
        image="127.0.0.1:5000/redis:7",
        bundle=f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id_}",
        stdin="",
        stdout=f"/run/containerd/fifo/{id_}-stdout",
        stderr=f"/run/containerd/fifo/{id_}-stderr",
        terminal=False,
        name="redis",
        process_sha256="5b" * 32,
    )


def image_decrypted() -> events.ImageDecrypted:
    return events.ImageDecrypted(
        reference="127.0.0.1:5000/redis:7",
        manifest_digest="sha256:" + "12" * 32,
        policy="kbs:///default/security-policy/image",
        verdict="signed by kbs:///default/image-public-key/owner",
        key_ids=("kbs:///default/image-key/redis",),
        bytes=41_000_000,
        nanoseconds=812_000_000,
    )


def step_failed(transition: str, *, temporary: bool = False, code: str = "E-RUNTIME-001") -> events.StepFailed:
    return events.StepFailed(
        transition=transition,
        code=code,
        message=f"{transition} did not succeed",
        expected="success",
        got="something else",
        advice="look at the worker's log",
        temporary=temporary,
    )


def total(histories: Iterable[History]) -> int:
    """How many messages there are in all."""
    return sum(len(history.raw) for history in histories)
