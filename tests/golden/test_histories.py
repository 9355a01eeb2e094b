"""Histories of every outcome, as they were once written: every later version folds them to the same launch."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from orchestrator import events
from orchestrator.faults import Code
from orchestrator.lifecycle import State
from tests.golden.histories.generate import FOLDER, SCENARIOS, make
from tests.golden.histories.outcome import outcome

FILES = sorted(FOLDER.glob("*.jsonl"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_golden_history_folds_to_what_it_always_did(path: Path) -> None:
    head, *messages = [json.loads(line) for line in path.read_text().splitlines()]
    records = [events.read(m["sequence"], base64.b64decode(m["message"], validate=True)) for m in messages]
    assert json.loads(json.dumps(outcome(head["outcome"]["pod"], records))) == head["outcome"]
    kinds = [events.kind(r.fact.body) if isinstance(r, events.Recorded) else "foreign" for r in records]
    assert kinds == [message["kind"] for message in messages]


def test_every_scenario_has_its_file_and_every_file_its_scenario() -> None:
    assert {path.stem for path in FILES} == set(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_generator_makes_the_same_bytes_each_time(name: str) -> None:
    assert make(name).raw == make(name).raw


def test_every_outcome_and_every_kind_of_fact_is_among_them() -> None:
    every = [json.loads(path.read_text().splitlines()[0])["outcome"] for path in FILES]
    assert {o["refused"] for o in every if "refused" in o} == {Code.BUS_HISTORY}
    outcomes = [o for o in every if "refused" not in o]
    states = {o["state"] for o in outcomes} | {c["state"] for o in outcomes for c in o["containers"].values()}
    assert states >= {State.REQUESTED, State.APP_BOOTED, State.EXITED, State.FAILED, State.GONE}
    assert Code.FACT_FORGED in {o["failure"][1] for o in outcomes if o["failure"]}
    kinds = {json.loads(line).get("kind") for path in FILES for line in path.read_text().splitlines()}
    assert kinds >= {name.replace("_", "-") for name in events._BODIES} | {"unknown", "foreign"}
