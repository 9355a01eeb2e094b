"""Kubernetes' documents into values: nodes, Jobs, verification pods, guests, RuntimeClasses. Pure.

Documents are read as JSON objects, tolerantly: they come from other programs and other versions, and what they do not
say is the value that touches nothing (a node that does not say that it is Ready is not).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from deploy.operator import names
from deploy.operator.observed import Guest, Node, Outcome, RuntimeClass, Work
from deploy.operator.record import MAX_TEXT, Problem, parse_record
from deploy.operator.report import Report, parse_report
from deploy.operator.runtime_class import FINGERPRINT_ANNOTATION
from orchestrator.faults import Permanent

Document = Mapping[str, Any]
_ENDED: Final = ("Succeeded", "Failed")


def node(document: Document, guests: tuple[Guest, ...] | None = None) -> Node:
    """A node, with its record where it has one."""
    metadata, status = document["metadata"], document.get("status") or {}
    record, unreadable = None, None
    text = (metadata.get("annotations") or {}).get(names.RECORD_ANNOTATION)
    if text is not None:
        try:
            record = parse_record(text)
        except Permanent as fault:
            said = fault.diagnosis
            unreadable = Problem(said.code, said.message, said.expected, said.got, said.advice)
    handlers = [handler.get("name", "") for handler in status.get("runtimeHandlers") or ()]
    return Node(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        version=metadata.get("resourceVersion", ""),
        labels=dict(metadata.get("labels") or {}),
        ready=any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ()),
        machine_id=(status.get("nodeInfo") or {}).get("machineID", ""),
        handlers=frozenset(handlers) if handlers else None,
        record=record,
        unreadable=unreadable,
        guests=guests,
    )


def job(document: Document, pods: Sequence[Document], mode: str) -> Work | None:
    """A Job of ours with what its pod said; None for one that is not of this form."""
    metadata, status = document["metadata"], document.get("status") or {}
    met = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    outcome = Outcome.SUCCEEDED if "Complete" in met else Outcome.FAILED if "Failed" in met else Outcome.RUNNING
    own = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get("job-name") == metadata["name"]]
    report, problem = _said(own, mode)
    if outcome is Outcome.FAILED and problem is None:
        reason: Document = next((c for c in status["conditions"] if c.get("type") == "Failed"), {})
        problem = _runtime(f"the node's Job failed: {reason.get('reason', '')}", str(reason.get("message", "")))
    return _work(metadata, outcome, report if outcome is not Outcome.RUNNING else None, problem)


def verification(document: Document) -> Work | None:
    """A verification pod; None for a pod that is not of this form."""
    phase = (document.get("status") or {}).get("phase", "")
    outcome = {"Succeeded": Outcome.SUCCEEDED, "Failed": Outcome.FAILED}.get(phase, Outcome.RUNNING)
    problem = None
    if outcome is Outcome.FAILED:
        status = document["status"]
        ended = [(c.get("state") or {}).get("terminated") or {} for c in status.get("containerStatuses") or ()]
        codes = ", ".join(str(end.get("exitCode", "?")) for end in ended)
        got = str(status.get("message") or status.get("reason") or f"exit status {codes or 'unknown'}")
        problem = _runtime("the verification pod failed", got)
    return _work(document["metadata"], outcome, None, problem)


def guest(document: Document, classes: frozenset[str]) -> Guest | None:
    """A pod that runs, or may begin to run, through one of these RuntimeClasses."""
    metadata, status = document["metadata"], document.get("status") or {}
    if (document.get("spec") or {}).get("runtimeClassName") not in classes or status.get("phase") in _ENDED:
        return None
    return Guest(metadata.get("namespace", ""), metadata["name"], leaving="deletionTimestamp" in metadata)


def runtime_class(document: Document) -> RuntimeClass:
    """A RuntimeClass, whoever made it."""
    metadata = document["metadata"]
    owner = (metadata.get("labels") or {}).get(names.CLAIM_LABEL, "")
    return RuntimeClass(metadata["name"], owner, (metadata.get("annotations") or {}).get(FINGERPRINT_ANNOTATION, ""))


def _work(metadata: Document, outcome: Outcome, report: Report | None, problem: Problem | None) -> Work | None:
    serial = (metadata.get("labels") or {}).get(names.SERIAL_LABEL, "")
    name = (metadata.get("annotations") or {}).get(names.NODE_LABEL, "")
    if not (name and serial.isascii() and serial.isdecimal()):
        return None
    return Work(metadata["name"], name, int(serial), outcome, report, problem)


def _said(pods: Sequence[Document], mode: str) -> tuple[Report | None, Problem | None]:
    """What a Job's pod said when it ended, or why it does not begin."""
    for pod in pods:
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            state = container.get("state") or {}
            if waiting := state.get("waiting"):
                return None, _runtime(f"the Job's pod waits: {waiting.get('reason', '')}", waiting.get("message") or "")
            if terminated := state.get("terminated"):
                try:
                    return parse_report(terminated.get("message") or "", mode), None
                except Permanent as fault:
                    said = fault.diagnosis
                    return None, Problem(said.code, said.message, said.expected, said.got, said.advice)
    return None, None


def _runtime(message: str, got: str) -> Problem:
    return Problem("E-RUNTIME-001", message[:MAX_TEXT], got=got[:MAX_TEXT])
