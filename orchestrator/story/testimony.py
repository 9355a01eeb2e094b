"""Each message of a history with who said it, on whose word it stands and what it changed.

Zone: any. May import: `orchestrator.{events,forgery,launch,lifecycle}`, `orchestrator.story.values`. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import fields

from orchestrator import events
from orchestrator.events import AgentUp, Attested, Body, Foreign, ForkedFrom, Recorded, ResumeRequested
from orchestrator.forgery import signed_by
from orchestrator.launch import Launch
from orchestrator.lifecycle import Zone
from orchestrator.story.values import Signer, Told

FORGED = "forged: "
"""How the fold's reason begins when it refused a message as a forgery."""


def testimony(launch: Launch, history: Iterable[Recorded | Foreign]) -> Iterator[Told]:
    """Every message, in order. `launch` is the fold of exactly these."""
    why = {entry.index: entry.why for entry in launch.ignored}
    key = b""
    for recorded in history:
        if isinstance(recorded, Foreign):
            yield Told(
                recorded.sequence, 0, 0, "foreign", "", 0, None, "", Signer.UNSIGNED, f"no fact: {recorded.why}", "", ()
            )
            continue
        fact, effect = recorded.fact, why.get(recorded.index, "")
        if isinstance(fact.body, AgentUp | Attested) and not effect:
            key = fact.body.event_public_key if isinstance(fact.body, Attested) else b""
        yield Told(
            sequence=recorded.sequence,
            index=recorded.index,
            at_ns=fact.at_ns,
            kind=events.kind(fact.body),
            container=fact.container,
            attempt=fact.attempt,
            zone=fact.zone,
            actor=fact.actor,
            signer=_signer(recorded, effect, key),
            effect=effect,
            digest=recorded.digest.hex(),
            details=tuple(details(fact.body)),
        )


def _signer(recorded: Recorded, effect: str, key: bytes) -> Signer:
    """`key` is the present agent's, empty until it is attested: what fails before is on nobody's signed word."""
    if effect.startswith(FORGED):
        return Signer.FORGED
    if isinstance(recorded.fact.body, ResumeRequested | ForkedFrom):
        return Signer.UNSIGNED if effect else Signer.OPERATOR
    if recorded.fact.zone is Zone.ENCLAVE and key and signed_by(recorded, key):
        return Signer.EVENT_KEY
    return Signer.UNSIGNED


def details(body: Body) -> Iterator[tuple[str, str]]:
    """A statement's members as (name, text); what is empty is left out."""
    for part in fields(body):
        value = getattr(body, part.name)
        name = part.name.replace("_", " ")
        if isinstance(value, bytes):
            yield name, f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}"
        elif isinstance(value, tuple):
            if value:
                yield name, ", ".join(item.hex() if isinstance(item, bytes) else str(item) for item in value)
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif value != "":
            yield name, str(value)
