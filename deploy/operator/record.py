"""Where one node stands: the annotation `enclave-cc.dev/record` on it, and nowhere else.

The record lives on the node, is written in the same request as the node's labels, and goes with the node. So an
operator that starts anew knows all that the last one knew, and a status that was lost is written again.

    settled  --begin-->  installing  --Job done-->  verifying  --serves-->  settled (payload = target)
                          |  three Jobs failed        |  it does not
                          +--------> undoing <--------+
                                       |  back on `payload`, which is verified again; or uninstalled, if there was none
    any      --the node leaves-->  removing  --Job done-->  no record, no label

`serial` counts the things started for a node: it names Jobs and verification pods, so that what was started twice, by
two operators or by one that was killed, exists once.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from deploy.operator import names
from orchestrator.faults import Code, Permanent

MAX_TEXT: Final = 512
"""Characters of each text of a problem: a node's annotations share 256 KiB, a status of all nodes 1 MiB."""
_MAX_RECORD: Final = 16 << 10
_PAYLOAD: Final = re.compile(r"(|[^\s@]{1,255}@sha256:[0-9a-f]{64})", re.ASCII)
_INTEGERS: Final = ("serial", "attempt", "not_before", "deadline")
_TEXTS: Final = ("runtime", "payload", "target", "refused", "measurement")


class Step(StrEnum):
    """What goes on with a node."""

    SETTLED = "settled"
    INSTALLING = "installing"
    VERIFYING = "verifying"
    UNDOING = "undoing"
    REMOVING = "removing"


IN_UPGRADE: Final = frozenset({Step.INSTALLING, Step.VERIFYING, Step.UNDOING})
"""Steps that count towards `batchSize`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong last, in the form of a fault: for people."""

    code: str
    message: str
    expected: str = ""
    got: str = ""
    advice: str = ""

    def text(self) -> str:
        """One line."""
        return f"{self.code}: {self.message}"


@dataclass(frozen=True, slots=True)
class Record:
    """A node that is claimed by the EnclaveRuntime `runtime`.

    `payload` is what the node serves or would go back to ("" for nothing), `target` what it is being brought to, both
    as image references by digest. `refused` is the rollout key (`Desired.key`) of what failed here. `attempt` counts
    from 1 within a step. `not_before` and `deadline` are seconds of the Unix epoch; 0 is none. `measurement` is the
    agent's, hex, as the node's Job told it for `payload`, or for `target` while that is verified.
    """

    runtime: str
    step: Step
    serial: int
    payload: str = ""
    target: str = ""
    attempt: int = 1
    not_before: int = 0
    deadline: int = 0
    refused: str = ""
    measurement: str = ""
    problem: Problem | None = field(default=None)

    @property
    def clean(self) -> bool:
        """Nothing of ours is on the node."""
        return self.step is Step.SETTLED and not self.payload

    def text(self) -> str:
        """The annotation's value: JSON, sorted keys."""
        document: dict[str, object] = {"format": 1, "step": str(self.step)}
        document |= {name: getattr(self, name) for name in (*_TEXTS, *_INTEGERS) if getattr(self, name)}
        if self.problem:
            document["problem"] = {name: getattr(self.problem, name)[:MAX_TEXT] for name in _PROBLEM}
        return json.dumps(document, sort_keys=True, separators=(",", ":"))


_PROBLEM: Final = ("code", "message", "expected", "got", "advice")


def labels_of(record: Record | None, *, serves: bool) -> dict[str, str | None]:
    """A node's labels under a record; None for one that it must not have."""
    if record is None:
        return dict.fromkeys((names.RUNTIME_LABEL, names.PAYLOAD_LABEL, names.CLAIM_LABEL))
    return {
        names.RUNTIME_LABEL: "true" if serves else "false",
        names.PAYLOAD_LABEL: names.short_digest(record.payload) if record.payload else None,
        names.CLAIM_LABEL: record.runtime,
    }


def parse_record(text: str) -> Record:
    """A record from its annotation. Raises Permanent(INPUT): an unreadable one is left alone, and told."""
    try:
        document = json.loads(text) if len(text) <= _MAX_RECORD else None
        if not isinstance(document, dict) or document.pop("format") != 1:
            raise ValueError("not a record of format 1")  # noqa: TRY301 - told below
        problem = document.pop("problem", None)
        step = Step(document.pop("step"))
        if unknown := document.keys() - {*_TEXTS, *_INTEGERS}:
            raise ValueError(f"unknown members {sorted(unknown)}")  # noqa: TRY301 - told below
        texts = {name: _text(document.get(name, "")) for name in _TEXTS}
        counts = {name: _integer(document.get(name, 0)) for name in _INTEGERS}
        if not texts["runtime"] or not counts["serial"]:
            raise ValueError("no runtime or no serial number")  # noqa: TRY301 - told below
        record = Record(
            runtime=texts["runtime"],
            step=step,
            serial=counts["serial"],
            payload=texts["payload"],
            target=texts["target"],
            attempt=max(1, counts["attempt"]),
            not_before=counts["not_before"],
            deadline=counts["deadline"],
            refused=texts["refused"],
            measurement=texts["measurement"],
            problem=Problem(**{name: _text(problem[name]) for name in _PROBLEM}) if problem is not None else None,
        )
        if not (_PAYLOAD.fullmatch(record.payload) and _PAYLOAD.fullmatch(record.target)):
            raise ValueError("a payload that is not an image reference by digest")  # noqa: TRY301 - told below
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Permanent(
            Code.INPUT,
            "a node's record cannot be read, so nothing is done to the node",
            expected="what the operator wrote into the annotation enclave-cc.dev/record",
            got=f"{type(error).__name__}: {error}"[:MAX_TEXT],
            advice="remove the annotation: the node is then installed anew, which changes nothing that is in place",
        ) from error
    return record


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise TypeError("not a count")
    return value
