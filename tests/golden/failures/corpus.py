"""Failed launches, one for each fault code that a launch can meet, with the cause that was planted.

`corpus.json` holds, for each code: what was done to make it fail (`planted`), the transition that failed, the diagnosis
in the enforcing code's own words as it raised it, and which likely cause `describe` must put first. Where `diagnosis`
is null the fold makes it from other facts, and so does `play`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from orchestrator import events
from orchestrator.bus import subjects
from orchestrator.faults import Code
from orchestrator.lifecycle import BY_NAME, Subject, Zone
from orchestrator.replay import bundle
from tests.simulators import history
from tests.simulators.history import APP, History

FILE = Path(__file__).with_name("corpus.json")
POD = "c0de" * 16


@dataclass(frozen=True, slots=True)
class Case:
    """One failed launch. `cause` begins the cause that must come first; `evident` says that the launch shows it."""

    code: Code
    transition: str
    planted: str
    told: events.StepFailed | None
    cause: str
    evident: bool


def cases() -> list[Case]:
    """The corpus, in the order of the codes."""
    return [
        Case(
            Code(entry["code"]),
            entry["transition"],
            entry["planted"],
            events.StepFailed(entry["transition"], entry["code"], **entry["diagnosis"]) if entry["diagnosis"] else None,
            entry["cause"],
            entry["evident"],
        )
        for entry in json.loads(FILE.read_text())
    ]


def play(case: Case) -> History:
    """The launch, up to its failure."""
    made = History(POD)
    made.requested()
    if case.code is Code.BUS_HISTORY:
        _lead_to(made, "start_app")
        made.raw[4] = made.raw[4].replace(b"redis", b"other")
        return made
    if case.code is Code.STOPPED:
        _lead_to(made, case.transition)
        made.stop()
        made.torn_down()
        return made
    if case.code is Code.AGENT_LOST:
        made.sandboxed()
        made.agent_up()
        made.agent_lost(137)
        return made
    _lead_to(made, case.transition)
    if case.code is Code.FACT_FORGED:
        made.say(history.image_decrypted(), container=APP, attempt=1, zone=Zone.HOST)
    elif case.told is None:
        made.exited(code=137)
    else:
        _fail(made, case.told)
    return made


def _lead_to(made: History, transition: str) -> None:
    """Everything before the transition, done."""
    row = BY_NAME[transition]
    steps = (made.sandboxed, made.agent_up, made.attested, made.container, made.decrypted, made.sealed)
    names = ("create_sandbox", "launch_agent", "attest", "", "decrypt_image", "seal_fs")
    for name, step in zip(names, steps, strict=True):
        if name == transition:
            return
        step()
    made.start()
    if transition != "start_app":
        made.app_started()
    if transition == "boot_app":
        made.delivered()
    assert row.subject is Subject.CONTAINER


def _fail(made: History, told: events.StepFailed) -> None:
    row = BY_NAME[told.transition]
    container = APP if row.subject is Subject.CONTAINER else ""
    for attempt in range(1, row.attempts + 1 if told.temporary else 2):
        made.say(told, container=container, attempt=attempt, zone=row.zone, after_ms=300)


def exported(case: Case) -> bytes:
    """The launch as a file that `describe` reads."""
    stored = list(enumerate(play(case).raw, 1))
    made = bundle.export(POD, subjects.history(POD), "payments/redis-0", stored, "2026-01-01T00:00:00.000000000Z")
    return bundle.encode(made)
