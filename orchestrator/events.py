"""Facts and commands as values, and their exact bytes on the bus.

Zone: any. May import: `schemas`, `orchestrator.{bodies,lifecycle}`, `cryptography`, the standard library. No I/O.

A fact is stored as `schemas/facts.proto` Envelope. Its statement stays opaque bytes inside, so that what was hashed and
signed is what is kept; fields that this version does not know survive in them.

- Chain: `previous` is the SHA-256 of the stored bytes of the pod's message before, `index` counts from 1.
- Signature of an enclave's fact: Ed25519, by the event key that the agent's quote binds, over
  `DOMAIN || index (8 bytes, big endian) || SHA-256(previous) || SHA-256(statement)`. The position is signed too: a host
  that replays or reorders an enclave's fact breaks it.
- Signature of an operator's order (`ResumeRequested`, `ForkedFrom`): the same, by the key that the order names. The
  orders are of the host zone: what they ask for is asked by an untrusted place, and only ever of it.
- Event key binding: `report_data[:32]` of the quote is `event_key_binding(pod, public_key)`.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Final

from google.protobuf.message import DecodeError

from orchestrator.bodies import (
    MAX_HOLD_SECONDS,
    AgentLost,
    AgentUp,
    AppBooted,
    AppStarted,
    Attested,
    Body,
    ConfigDelivered,
    ContainerRequested,
    ExecAdmitted,
    ExecRefused,
    Exited,
    ForkedFrom,
    FsSealed,
    ImageDecrypted,
    PodRequested,
    ResumeRequested,
    SandboxCreated,
    StartRequested,
    StepFailed,
    StopRequested,
    TornDown,
    Unknown,
)
from orchestrator.faults import Code, Permanent
from orchestrator.lifecycle import Zone
from schemas import commands_pb2, facts_pb2

__all__ = [
    "EVENT_KEY_DOMAIN",
    "MAX_FACT_BYTES",
    "MAX_HOLD_SECONDS",
    "SIGNATURE_DOMAIN",
    "AgentLost",
    "AgentUp",
    "AppBooted",
    "AppStarted",
    "Attested",
    "Body",
    "Command",
    "ConfigDelivered",
    "ContainerRequested",
    "ExecAdmitted",
    "ExecRefused",
    "Exited",
    "Fact",
    "Foreign",
    "ForkedFrom",
    "FsSealed",
    "ImageDecrypted",
    "PodRequested",
    "Recorded",
    "ResumeRequested",
    "SandboxCreated",
    "StartRequested",
    "StepFailed",
    "StopRequested",
    "TornDown",
    "Unknown",
    "decode",
    "encode",
    "encode_statement",
    "event_key_binding",
    "kind",
    "read",
    "signed_bytes",
]

SIGNATURE_DOMAIN: Final = b"enclave-cc/fact/v1\0"
EVENT_KEY_DOMAIN: Final = b"enclave-cc/event-key/v1\0"
MAX_FACT_BYTES: Final = 256 * 1024
"""A quote is 5 KB; anything near this bound is not one of ours."""

_POD: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_CONTAINER: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,127})?")
"""containerd's identifiers. They name subjects, files and directories, so nothing else gets into a history."""

_END_OF_TIME_NS: Final = 1 << 63
"""A time from here on (the year 2262) is garbage; a deadline added to one before still fits 64 bits."""

_BODIES: Final[dict[str, type[Any]]] = {
    "pod_requested": PodRequested,
    "sandbox_created": SandboxCreated,
    "agent_up": AgentUp,
    "attested": Attested,
    "container_requested": ContainerRequested,
    "image_decrypted": ImageDecrypted,
    "fs_sealed": FsSealed,
    "start_requested": StartRequested,
    "app_started": AppStarted,
    "config_delivered": ConfigDelivered,
    "app_booted": AppBooted,
    "step_failed": StepFailed,
    "exited": Exited,
    "stop_requested": StopRequested,
    "torn_down": TornDown,
    "agent_lost": AgentLost,
    "resume_requested": ResumeRequested,
    "forked_from": ForkedFrom,
    "exec_admitted": ExecAdmitted,
    "exec_refused": ExecRefused,
}
_PARTS: Final = {
    body: tuple((part.name, str(part.type).startswith("tuple")) for part in fields(body)) for body in _BODIES.values()
}
"""Each body's fields, in order, and whether the field is repeated."""

_FIELD_OF: Final = {body: name for name, body in _BODIES.items()}
_ZONE_TO_WIRE: Final = {Zone.HOST: facts_pb2.ZONE_HOST, Zone.ENCLAVE: facts_pb2.ZONE_ENCLAVE}
_ZONE_FROM_WIRE: Final = {wire: zone for zone, wire in _ZONE_TO_WIRE.items()}


def kind(body: Body) -> str:
    """The fact's name as people read it: `image-decrypted`."""
    return _FIELD_OF.get(type(body), "unknown").replace("_", "-")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened. `container` is empty for the pod itself; `attempt` 0 answers no transition."""

    pod: str
    body: Body
    zone: Zone
    actor: str
    container: str = ""
    attempt: int = 0
    at_ns: int = field(default_factory=time.time_ns)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A fact as stored: `sequence` in the stream, `digest` the SHA-256 of the stored bytes."""

    sequence: int
    index: int
    id: bytes
    previous: bytes
    digest: bytes
    statement: bytes
    signature: bytes
    fact: Fact


@dataclass(frozen=True, slots=True)
class Foreign:
    """A message on a history's subject that is no fact, for instance a server's own answer misdirected there."""

    sequence: int
    why: str


def event_key_binding(pod: str, public_key: bytes) -> bytes:
    """32 bytes for the quote's report data: which key signs this pod's facts (DESIGN: zones)."""
    return hashlib.sha256(EVENT_KEY_DOMAIN + pod.encode() + b"\0" + public_key).digest()


def signed_bytes(index: int, previous: bytes, statement: bytes) -> bytes:
    """What an enclave signs; see the module's head."""
    parts = (index.to_bytes(8, "big"), hashlib.sha256(previous).digest(), hashlib.sha256(statement).digest())
    return SIGNATURE_DOMAIN + b"".join(parts)


def encode_statement(fact: Fact) -> bytes:
    """The statement's bytes. Raises Permanent(INPUT) for an id that no reader would take.

    Raises TypeError for an `Unknown` body: nobody may invent one.
    """
    if isinstance(fact.body, Unknown):
        raise TypeError("a fact of unknown kind cannot be written")
    if not _POD.fullmatch(fact.pod) or not _CONTAINER.fullmatch(fact.container):
        raise _unwritable("containerd's identifiers", f"pod {fact.pod[:140]!r}, container {fact.container[:140]!r}")
    wire = facts_pb2.Statement(
        pod=fact.pod,
        container=fact.container,
        zone=_ZONE_TO_WIRE[fact.zone],
        actor=fact.actor,
        at_ns=fact.at_ns,
        attempt=fact.attempt,
    )
    target = getattr(wire, _FIELD_OF[type(fact.body)])
    target.SetInParent()
    for part in fields(fact.body):
        value = getattr(fact.body, part.name)
        if isinstance(value, tuple):
            getattr(target, part.name).extend(value)
        else:
            setattr(target, part.name, value)
    return wire.SerializeToString()


def encode(
    fact: Fact, index: int, previous: bytes, sign: Callable[[bytes], bytes] | None, id_: bytes | None = None
) -> bytes:
    """The bytes to store at `index` after the message with digest `previous`. `sign` is the enclave's event key.

    Raises Permanent(INPUT) for a fact that no reader would take.
    """
    statement = encode_statement(fact)
    signature = sign(signed_bytes(index, previous, statement)) if sign else b""
    envelope = facts_pb2.Envelope(
        id=id_ or os.urandom(16), index=index, previous=previous, statement=statement, signature=signature
    )
    raw = envelope.SerializeToString()
    if len(raw) > MAX_FACT_BYTES:
        raise _unwritable(f"at most {MAX_FACT_BYTES} bytes", f"{kind(fact.body)} of {len(raw)} bytes")
    return raw


def _unwritable(expected: str, got: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        "this fact cannot be recorded",
        expected=expected,
        got=got,
        advice="this is a defect of whoever states it: report it",
    )


def read(sequence: int, raw: bytes) -> Recorded | Foreign:
    """Whatever was stored on a history's subject. Whoever may publish there cannot stop its readers with garbage."""
    try:
        return decode(sequence, raw)
    except Permanent as fault:
        return Foreign(sequence, fault.diagnosis.got)


def decode(sequence: int, raw: bytes) -> Recorded:
    """Parse a stored fact. Raises Permanent(BUS_HISTORY) for bytes that are no fact."""
    if len(raw) > MAX_FACT_BYTES:
        raise _not_a_fact(sequence, f"at most {MAX_FACT_BYTES} bytes", f"{len(raw)} bytes")
    try:
        envelope = facts_pb2.Envelope.FromString(raw)
        wire = facts_pb2.Statement.FromString(envelope.statement)
    except DecodeError as error:
        raise _not_a_fact(sequence, "a protobuf Envelope with a Statement", "bytes that do not parse") from error
    zone = _ZONE_FROM_WIRE.get(wire.zone)
    if zone is None or not wire.pod or envelope.index == 0 or len(envelope.id) != 16:
        raise _not_a_fact(sequence, "a pod, a zone, an index from 1 and an id of 16 bytes", "one of them missing")
    if not _POD.fullmatch(wire.pod) or not _CONTAINER.fullmatch(wire.container) or wire.at_ns >= _END_OF_TIME_NS:
        raise _not_a_fact(sequence, "identifiers of containerd's and a time before 2262", "others")
    return Recorded(
        sequence=sequence,
        index=envelope.index,
        id=envelope.id,
        previous=envelope.previous,
        digest=hashlib.sha256(raw).digest(),
        statement=envelope.statement,
        signature=envelope.signature,
        fact=Fact(wire.pod, _decode_body(wire), zone, wire.actor, wire.container, wire.attempt, wire.at_ns),
    )


def _decode_body(wire: facts_pb2.Statement) -> Body:
    name = wire.WhichOneof("body")
    if name is None:
        return Unknown()
    body, source = _BODIES[name], getattr(wire, name)
    # By position, from a table: reflecting on the fields of each of a million facts would be half the work.
    decoded: Body = body(
        *[tuple(getattr(source, part)) if many else getattr(source, part) for part, many in _PARTS[body]]
    )
    return decoded


def _not_a_fact(sequence: int, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.BUS_HISTORY,
        f"message {sequence} of the event stream is no fact",
        expected=expected,
        got=got,
        advice="compare the stream with its exported heads; something else than this system wrote to it",
    )


@dataclass(frozen=True, slots=True)
class Command:
    """A step asked of a worker. Redelivered until acknowledged: execute it idempotently."""

    pod: str
    container: str
    transition: str
    attempt: int
    sequence: int
    deadline_ns: int

    def encode(self) -> bytes:
        """The bytes of `schemas/commands.proto` Command."""
        wire = commands_pb2.Command(**{part.name: getattr(self, part.name) for part in fields(self)})
        return wire.SerializeToString()

    @staticmethod
    def decode(raw: bytes) -> Command:
        """Parse; raises Permanent(BUS_HISTORY) for bytes that are no command."""
        try:
            wire = commands_pb2.Command.FromString(raw)
        except DecodeError as error:
            raise Permanent(
                Code.BUS_HISTORY,
                "a message of the work queue is no command",
                expected="a protobuf Command",
                got=f"{len(raw)} bytes that do not parse",
                advice="see who else may publish to cmd.>",
            ) from error
        return Command(**{part.name: getattr(wire, part.name) for part in fields(Command)})
