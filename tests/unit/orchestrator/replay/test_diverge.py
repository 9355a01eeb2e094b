"""The first message that today's code decides otherwise is named, by what was recorded or by what followed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from orchestrator.events import StepFailed
from orchestrator.faults import Code, Diagnosis
from orchestrator.lifecycle import Zone
from orchestrator.replay.decision import decisions
from orchestrator.replay.diverge import first_divergence
from tests.golden.histories.generate import SCENARIOS, make
from tests.simulators import history
from tests.simulators.history import APP, History
from tests.simulators.weather import play, storm

ANSWERED_BY_NOBODY = {
    "late-and-doubled",
    "stopped-half-way",
    "nobody-asked",
    "a-message-is-missing",
    "a-message-was-edited",
    "a-fork",
}
"""Golden histories in which somebody answers what nobody awaits, or whose chain is broken."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_golden_history_is_decided_otherwise_than_it_was(name: str) -> None:
    made = make(name)
    records = made.records()
    assert first_divergence(made.pod, records, decisions(made.pod, records)) is None
    if name not in ANSWERED_BY_NOBODY:
        assert first_divergence(made.pod, records) is None


@given(storm)
def test_a_history_folded_twice_by_the_same_code_never_differs(messages: list) -> None:
    records = [message for message, _ in play(messages)]
    assert first_divergence(history.POD, records, decisions(history.POD, records)) is None


def test_a_recorded_decision_that_differs_is_named_with_both_sides() -> None:
    made = History()
    made.up_to_booted()
    records = made.records()
    then = decisions(made.pod, records)
    then[5] = replace(then[5], awaited=(f"{APP}/decrypt_image/2",), failure="E-KEY-002")
    found = first_divergence(made.pod, records, then)
    assert found is not None
    assert (found.index, found.kind, found.container) == (6, "image-decrypted", APP)
    assert found.then == f"awaited: {APP}/decrypt_image/2; failed: E-KEY-002"
    assert found.today == f"awaited: {APP}/seal_fs/1; not failed"


def test_a_fold_that_stops_where_it_once_went_on_is_named() -> None:
    made = History()
    made.up_to_booted()
    then = decisions(made.pod, made.records())
    del made.raw[4]
    found = first_divergence(made.pod, made.records(), then[:4] + then[5:])
    assert found is not None
    assert found.today == f"the fold stops here: {Code.BUS_HISTORY}"
    assert found.then == "the fold goes on"


def test_an_attempt_that_todays_code_would_not_have_asked_for_is_named() -> None:
    """As if the code of then had retried what today's gives up: a permanent failure, and a second attempt."""
    made = History()
    made.up_to_attested()
    made.container()
    made.failed("decrypt_image", container=APP, zone=Zone.ENCLAVE)
    made.decrypted(attempt=2)
    found = first_divergence(made.pod, made.records())
    assert found is not None
    assert (found.index, found.kind) == (7, "image-decrypted")
    assert found.then == "decrypt_image attempt 2 was awaited when this answered it"
    assert found.today == "awaited: teardown attempt 1"


def test_a_step_given_up_too_early_for_todays_deadline_is_named() -> None:
    made = History()
    made.requested()
    made.sandboxed()
    body = StepFailed.of("launch_agent", Diagnosis(Code.DEADLINE, "late", temporary=True))
    fact = replace(made.records()[-1].fact, body=body, actor="orchestrator/1", attempt=1, at_ns=made.now_ns + 10**9)
    head = made.launch().head
    made.raw.append(history.events.encode(fact, 3, head, None, bytes(16)))
    found = first_divergence(made.pod, made.records())
    assert found is not None
    assert found.today == "it would be given 59.0 s more"
