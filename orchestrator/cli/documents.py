"""What `--json` prints: the stable form, version 1. A member may be added; none changes its meaning or goes away.

Zone: host. May import: `orchestrator.{events,faults,launch,lifecycle,story,verify}`, `orchestrator.cli`.

Times are UTC in ISO 8601 with microseconds, or null; durations are milliseconds; digests and keys are hex.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from orchestrator.cli.finding import Known
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Diagnosis
from orchestrator.launch import Failure, Launch, Passed
from orchestrator.story import Explained, LaunchStory, Outcome, Signer, Step, Told, reached, title
from orchestrator.verify import Verified

SIGNATURE = {Signer.EVENT_KEY: "ok", Signer.OPERATOR: "ok", Signer.UNSIGNED: "none", Signer.FORGED: "bad"}


def instant(at_ns: int) -> str | None:
    """Nanoseconds since 1970 as text; None for 0, which is no time."""
    if not at_ns:
        return None
    seconds, rest = divmod(at_ns, 10**9)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000).isoformat(timespec="microseconds")


def milliseconds(nanoseconds: int) -> float:
    """To a microsecond."""
    return round(nanoseconds / 1e6, 3)


def summary(known: Known) -> dict[str, Any]:
    """One line of `launches`."""
    launch, asked = known.launch, known.launch.requested
    return {
        "pod": launch.pod,
        "namespace": asked.namespace if asked else "",
        "name": asked.name if asked else "",
        "node": asked.node if asked else "",
        "state": launch.state.value,
        "reached": reached(launch).value,
        "began": instant(known.began_ns),
        "changed": instant(known.changed_ns),
        "containers": _containers(launch),
        "failure": _short(launch.failure),
        "broken": diagnosis(known.broken) if known.broken else None,
    }


def _containers(launch: Launch) -> list[dict[str, Any]]:
    return [
        {
            "id": container.id,
            "name": container.requested.name,
            "image": container.requested.image,
            "state": container.progress.state.value,
            "reached": container.progress.reached.value,
            "exit": container.progress.exit.code if container.progress.exit else None,
            "host_data": list(container.delivered.host_data) if container.delivered else [],
        }
        for container in launch.containers.values()
    ]


def _short(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        "state": failure.state.value,
        "transition": failure.transition,
        "code": failure.diagnosis.code.value,
        "message": failure.diagnosis.message,
    }


def diagnosis(told: Diagnosis) -> dict[str, Any]:
    """A fault's diagnosis; `try` is what to do."""
    return {
        "code": told.code.value,
        "message": told.message,
        "expected": told.expected,
        "got": told.got,
        "try": told.advice,
        "temporary": told.temporary,
    }


def story(told: LaunchStory) -> dict[str, Any]:
    """`show`: everything that is told of one launch."""
    launch = told.launch
    known = Known(launch, told.began_ns, told.changed_ns)
    return {
        **summary(known),
        "title": told.title,
        "verdict": told.verdict,
        "working_ms": milliseconds(told.working_ns),
        "states": states(told),
        "steps": [_step(step) for step in told.steps],
        "waiting": [
            {
                "container": step.container,
                "transition": step.transition.name,
                "attempt": step.attempt,
                "not_before": instant(step.not_before_ns),
                "deadline": instant(step.deadline_ns),
            }
            for step in told.waiting
        ],
        "evidence": asdict(told.evidence) if told.evidence else None,
        "verdicts": [{**asdict(verdict), "zone": verdict.zone.value} for verdict in told.verdicts],
        "failures": [_explained(explained) for explained in told.failures],
        "stopped": _explained(told.stopped) if told.stopped else None,
        "orders": [
            {
                "index": order.index,
                "at": instant(order.at_ns),
                "container": order.container,
                "what": order.what,
                "actor": order.actor,
                "signature": SIGNATURE[order.signer],
                "reason": order.reason,
            }
            for order in told.orders
        ],
        "ignored": [{"index": entry.index, "kind": entry.kind, "why": entry.why} for entry in launch.ignored],
    }


def states(told: LaunchStory) -> list[dict[str, Any]]:
    """The states that were reached, in order: `{"container", "state", "ms", "attempts"}`; no container: the pod."""
    return [
        {
            "container": step.container,
            "state": step.transition.target.value,
            "ms": milliseconds(step.nanoseconds),
            "attempts": step.attempts,
        }
        for step in told.steps
        if step.outcome is Outcome.DONE
    ]


def passed(container: str, entry: Passed) -> dict[str, Any]:
    """A state that was just reached, in the form of `states`."""
    return {
        "container": container,
        "state": entry.state.value,
        "ms": milliseconds(entry.nanoseconds),
        "attempts": entry.attempts,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "container": step.container,
        "transition": step.transition.name,
        "zone": step.transition.zone.value,
        "state": step.transition.target.value,
        "outcome": step.outcome.value,
        "began": instant(step.began_ns),
        "ended": instant(step.ended_ns),
        "ms": milliseconds(step.nanoseconds),
        "attempts": step.attempts,
        "index": step.index or None,
        "failed": [{"attempt": one.number, "counted": one.counted, **diagnosis(one.diagnosis)} for one in step.failed],
    }


def _explained(explained: Explained) -> dict[str, Any]:
    failure = explained.failure
    return {
        "container": explained.container,
        "state": failure.state.value,
        "transition": failure.transition,
        "attempt": failure.attempt,
        "index": failure.index,
        **diagnosis(failure.diagnosis),
        "next": explained.next_action,
        "causes": [asdict(cause) for cause in explained.causes],
    }


def history(told: LaunchStory, messages: list[Recorded | Foreign]) -> Iterator[dict[str, Any]]:
    """`events`: each message, with what it says."""
    before_ns = 0
    for entry, message in zip(told.facts, messages, strict=True):
        yield event(entry, message, before_ns)
        before_ns = entry.at_ns or before_ns


def event(entry: Told, message: Recorded | Foreign, before_ns: int) -> dict[str, Any]:
    """One message; `before_ns` is the time of the one before it, for `delta_ms`. Bytes in a body are base64."""
    return {
        "sequence": entry.sequence,
        "index": entry.index or None,
        "at": instant(entry.at_ns),
        "at_ns": entry.at_ns,
        "delta_ms": milliseconds(entry.at_ns - before_ns) if entry.at_ns and before_ns else 0.0,
        "zone": entry.zone.value if entry.zone else None,
        "actor": entry.actor,
        "kind": entry.kind,
        "container": entry.container,
        "attempt": entry.attempt,
        "signature": SIGNATURE[entry.signer],
        "effect": entry.effect,
        "digest": entry.digest,
        "body": _body(message) if isinstance(message, Recorded) else {},
    }


def _body(message: Recorded) -> dict[str, Any]:
    body = message.fact.body
    return {part.name: _value(getattr(body, part.name)) for part in fields(body)}


def _value(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [_value(item) for item in value] if isinstance(value, tuple) else value


def verified(found: Verified) -> dict[str, Any]:
    """`verify`, of a history that holds."""
    return {
        "pod": found.launch.pod,
        "verified": True,
        "facts": found.facts,
        "signed": found.signed,
        "head": found.launch.head.hex(),
        "measurement": found.launch.attested.measurement if found.launch.attested else None,
        "quote": {"checked": found.tcb_status is not None, "tcb_status": found.tcb_status},
        "simulated": found.launch.attested.simulated if found.launch.attested else None,
        "proved": list(found.proved),
        "not_proved": list(found.not_proved),
        "title": title(found.launch),
    }
