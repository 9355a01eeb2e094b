"""What people are told: the resource's status, whole, from the same look at the cluster as the decision. Pure.

`Ready`: every selected node serves the payload that the spec names. `Progressing`: something is under way or may begin.
`Degraded`: a person has to look; `message` names the first nodes and their faults. A condition's `lastTransitionTime`
changes when its status does, and `observedGeneration` says which spec it judges.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from deploy.operator.desired import Desired
from deploy.operator.names import RUNTIME_LABEL, digest_of
from deploy.operator.observed import Node, Observed, Outcome
from deploy.operator.record import Record, Step
from deploy.operator.rollout import Rollout, serves
from orchestrator.faults import Diagnosis

_MAX_MESSAGE: Final = 1024
_NAMED: Final = 3
"""Nodes that a condition's message names; `status.nodes` has all of them."""


def status_of(observed: Observed, desired: Desired, rollout: Rollout) -> dict[str, Any]:
    """The status document. Equal to `observed.status` where nothing new is to be said."""
    claimed = {node.name for node in rollout.claimed}
    wanted = {node.name for node in rollout.wanted}
    told = [_told(node, observed, desired, rollout) for node in observed.nodes if node.name in claimed | wanted]
    serving = sum(1 for node in rollout.wanted if serves(node, desired))
    missing = next((c for c in observed.runtime_classes if c.name == desired.runtime_class), None) is None
    troubles = _troubles(observed, desired, rollout)
    under_way = [entry for entry in told if entry["phase"] not in {"Serving", "Failed"}]
    conditions = [
        _ready(desired, rollout, serving, missing=missing),
        _progressing(desired, rollout, under_way),
        _condition("Degraded", bool(troubles), ("Trouble", "; ".join(troubles)) if troubles else ("AsWanted", "")),
    ]
    return {
        "observedGeneration": desired.generation,
        "payloadDigest": digest_of(desired.payload),
        "runtimeClass": "" if missing else desired.runtime_class,
        "nodesSelected": len(wanted),
        "nodesServing": serving,
        "nodes": told,
        "conditions": [_timed(condition, observed, desired) for condition in conditions],
    }


def broken(fault: Diagnosis, observed: Observed, generation: int) -> dict[str, Any]:
    """The status of a resource whose spec cannot be followed; what was said of nodes stays."""
    said = f"{fault.message}: {fault.got}"
    conditions = [
        _condition("Ready", False, ("InvalidSpec", said)),
        _condition("Progressing", False, ("InvalidSpec", "")),
        _condition("Degraded", True, ("InvalidSpec", said)),
    ]
    wanted = Desired(name="", generation=generation, payload="")
    return {
        **observed.status,
        "observedGeneration": generation,
        "conditions": [_timed(condition, observed, wanted) for condition in conditions],
    }


def _told(node: Node, observed: Observed, desired: Desired, rollout: Rollout) -> dict[str, Any]:
    record = node.record
    entry: dict[str, Any] = {"name": node.name, "phase": _phase(node, observed, desired, rollout)}
    if record and record.payload:
        entry["payloadDigest"] = digest_of(record.payload)
    if record and record.measurement:
        entry["measurement"] = record.measurement
    if error := _error(node, record, observed):
        entry["error"] = error
    return entry


def _phase(node: Node, observed: Observed, desired: Desired, rollout: Rollout) -> str:
    record = node.record
    stays = any(node is other for other in rollout.wanted)
    if record is None:
        return "Pending"
    if not stays and record.step is not Step.REMOVING:
        return "WaitingForPods" if node.guests else "Leaving"
    match record.step:
        case Step.INSTALLING if record.payload:
            return "Draining" if node.guests and desired.drain and not _works(node, observed) else "Upgrading"
        case Step.INSTALLING:
            return "Installing"
        case Step.VERIFYING:
            return "Verifying"
        case Step.UNDOING:
            return "RollingBack" if record.payload else "Undoing"
        case Step.REMOVING:
            return "WaitingForPods" if node.guests and not _works(node, observed) else "Uninstalling"
        case Step.SETTLED:
            if record.refused == desired.key and record.payload != desired.payload:
                return "Failed"
            return "Serving" if serves(node, desired) else "Pending"


def _works(node: Node, observed: Observed) -> bool:
    return node.record is not None and observed.job(node.name, node.record.serial) is not None


def _error(node: Node, record: Record | None, observed: Observed) -> str:
    if record is None:
        return "" if node.ready else "the node is not Ready"
    job = observed.job(node.name, record.serial)
    if job and job.outcome is Outcome.RUNNING and job.problem:
        return job.problem.text()
    if node.guests and node.labels.get(RUNTIME_LABEL) != "true" and not _works(node, observed):
        first = node.guests[0]
        return f"{len(node.guests)} pods still run through the runtime, {first.namespace}/{first.name} among them"
    if record.problem:
        return record.problem.text()
    return "" if node.ready else "the node is not Ready"


def _ready(desired: Desired, rollout: Rollout, serving: int, *, missing: bool) -> dict[str, Any]:
    count = len(rollout.wanted)
    if desired.deleting:
        return _condition("Ready", False, ("Deleting", f"{len(rollout.claimed)} nodes to be cleaned"))
    if not count:
        return _condition("Ready", False, ("NoNodes", "the node selector selects no node"))
    if serving < count or missing:
        return _condition("Ready", False, ("NotAllServe", f"{serving} of {count} nodes serve the payload"))
    return _condition("Ready", True, ("AllServe", f"{count} of {count} nodes serve the payload"))


def _progressing(desired: Desired, rollout: Rollout, under_way: list[dict[str, Any]]) -> dict[str, Any]:
    waiting = all(entry["phase"] == "Pending" for entry in under_way)
    if waiting and rollout.halted and not rollout.starters():
        return _condition("Progressing", False, ("Halted", "a node has trouble with the payload; no other begins"))
    if not under_way:
        return _condition("Progressing", False, ("Settled", ""))
    return _condition("Progressing", True, ("Removing" if desired.deleting else "RollingOut", _names(under_way)))


def _troubles(observed: Observed, desired: Desired, rollout: Rollout) -> list[str]:
    texts = [
        f"{node.name}: {node.record.problem.text()}" for node in rollout.claimed if node.record and node.record.problem
    ]
    selected = [node for node in observed.nodes if not desired.deleting and desired.selector.selects(node.labels)]
    texts += [f"{node.name}: {node.unreadable.text()}" for node in selected if node.unreadable]
    texts += [
        f"{node.name} is claimed by {node.record.runtime}"
        for node in selected
        if node.record and node.record.runtime != desired.name
    ]
    texts += [
        f"the RuntimeClass {found.name} was made by {found.owner or 'somebody else'}"
        for found in observed.runtime_classes
        if found.owner != desired.name and found.name == desired.runtime_class
    ]
    rest = len(texts) - _NAMED
    return [*texts[:_NAMED], f"and {rest} more"] if rest > 0 else texts


def _names(entries: list[dict[str, Any]]) -> str:
    first = ", ".join(f"{entry['name']} {entry['phase']}" for entry in entries[:_NAMED])
    return first + (f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else "")


def _condition(kind: str, holds: bool, why: tuple[str, str]) -> dict[str, Any]:
    return {"type": kind, "status": str(holds), "reason": why[0], "message": why[1][:_MAX_MESSAGE]}


def _timed(condition: dict[str, Any], observed: Observed, desired: Desired) -> dict[str, Any]:
    before: Mapping[str, Any] = next(
        (c for c in observed.status.get("conditions", ()) if c["type"] == condition["type"]), {}
    )
    same = before.get("status") == condition["status"]
    since = before.get("lastTransitionTime") if same else None
    now = dt.datetime.fromtimestamp(observed.now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**condition, "observedGeneration": desired.generation, "lastTransitionTime": since or now}
