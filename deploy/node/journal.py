"""The journal: the plan before its first step, each step before and after, the way back the same. Each line is synced.

Zone: host. May import: `deploy.node.{durable,plan,record,steps}`, `orchestrator.faults`, the standard library.

One line, one JSON document; a last line without its end was not written. The journal of the run before is kept beside
it, for whoever asks what was done to this node.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from deploy.node import durable, steps
from deploy.node.plan import Plan, Undo
from deploy.node.record import parse_edit
from deploy.node.steps import Step
from orchestrator.faults import Code, Permanent

Told = Callable[[str], None]
"""Told each line after it is on the disk, as a person reads it."""

KINDS: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        steps.Unpack,
        steps.Folder,
        steps.RemoveFolder,
        steps.Write,
        steps.Link,
        steps.Reload,
        steps.Service,
        steps.RestartContainerd,
        steps.Probe,
        steps.Sweep,
    )
}


@dataclass(slots=True)
class Unfinished:
    """A run that was killed: its plan, the steps begun and done, and whether it was already on the way back."""

    plan: Plan
    begun: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    undoing: bool = False
    undone: set[int] = field(default_factory=set)


class Journal:
    """One node's journal."""

    def __init__(self, path: Path, told: Told = lambda _: None) -> None:
        """Its folder must be there before the first line is written."""
        self._path = path
        self._told = told

    def unfinished(self) -> Unfinished | None:
        """The last run, if it came to no end. Raises Permanent(INPUT) for a journal that is none of ours."""
        if not self._path.exists():
            return None
        lines = self._path.read_bytes().split(b"\n")[:-1]
        try:
            documents = [json.loads(line) for line in lines]
            return _replay(documents)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise Permanent(
                Code.INPUT,
                "the journal of this node's last run cannot be read",
                expected=str(self._path),
                got=f"{type(error).__name__}: {error}"[:300],
                advice="another version wrote it: use that version's `enclave-cc node`",
            ) from error

    def begin(self, plan: Plan) -> None:
        """A new run."""
        if self._path.exists():
            self._path.rename(self._path.with_name(f"{self._path.name}.previous"))
        line = {"plan": _plan(plan)}
        durable.write(self._path, json.dumps(line).encode() + b"\n", 0o600)
        self._told(f"{plan.verb}: {len(plan.steps)} steps")

    def step(self, number: int, step: Step, when: str) -> None:
        """`when`: begun or done."""
        self._append({when: number, "step": step.name}, f"{when}: {step.name}")

    def undo(self, why: str) -> None:
        """From here on the way leads back."""
        self._append({"undoing": why[:500]}, f"undoing: {why}")

    def undone(self, number: int, step: Step) -> None:
        """A step back is done."""
        self._append({"undone": number, "step": step.name}, f"undone: {step.name}")

    def finish(self, outcome: str) -> None:
        """The run has come to its end."""
        self._append({"finished": outcome}, outcome)

    def _append(self, line: Mapping[str, object], said: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._told(said)


def _replay(documents: list[Any]) -> Unfinished | None:
    if not documents or any("finished" in line for line in documents):
        return None
    found = Unfinished(_parse_plan(documents[0]["plan"]))
    for line in documents[1:]:
        if "begun" in line:
            found.begun.add(line["begun"])
        elif "done" in line:
            found.done.add(line["done"])
        elif "undoing" in line:
            found.undoing = True
        elif "undone" in line:
            found.undone.add(line["undone"])
    return found


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "verb": plan.verb,
        "digest": plan.digest,
        "commit": plan.commit,
        "steps": [_step(step) for step in plan.steps],
        "undo": [{"of": undo.of, **_step(undo.step)} for undo in plan.undo],
    }


def _step(step: Any) -> dict[str, Any]:
    return {"kind": type(step).__name__, "with": asdict(step)}


def _parse_plan(document: Mapping[str, Any]) -> Plan:
    return Plan(
        document["verb"],
        document["digest"],
        tuple(_parse_step(member) for member in document["steps"]),
        tuple(Undo(_parse_step(member), member["of"]) for member in document["undo"]),
        document["commit"],
    )


def _parse_step(member: Mapping[str, Any]) -> Step:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in member["with"].items()
    }
    if isinstance(values.get("edit"), dict):
        values["edit"] = parse_edit(values["edit"])
    step: Step = KINDS[member["kind"]](**values)
    return step
