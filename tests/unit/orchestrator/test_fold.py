"""The fold, rule by rule: what counts, what is passed over, what fails a launch, what breaks a history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import events
from orchestrator.events import Foreign
from orchestrator.faults import Code, Permanent
from orchestrator.fold import BACKOFF_NS, apply, fold
from orchestrator.launch import Launch, awaited, new
from orchestrator.lifecycle import HOST_HALF, LAUNCH_STATES, TEARDOWN, State, Zone
from tests.simulators import history
from tests.simulators.history import APP, POD, SIDECAR, EventKey, History


def waits(launch: Launch) -> set[tuple[str, str, int]]:
    return {step.key for step in awaited(launch)}


def whys(launch: Launch) -> list[str]:
    return [entry.why for entry in launch.ignored]


@pytest.fixture
def made() -> History:
    return History()


# --- a launch as it should be -----------------------------------------------------------------------------------------


def test_a_launch_passes_the_seven_states_in_order_and_knows_how_long_each_took(made: History) -> None:
    launch = made.up_to_booted()
    passed = (*launch.progress.passed, *launch.containers[APP].progress.passed)
    assert [p.state for p in passed] == list(LAUNCH_STATES)
    assert [p.nanoseconds // history.MILLISECOND for p in passed] == [10, 10, 10, 850, 120, 20, 45]
    assert (launch.state, launch.failure, launch.ignored, waits(launch)) == (State.APP_BOOTED, None, (), set())


def test_each_fact_leads_to_the_next_step(made: History) -> None:
    steps = [
        (made.requested, {("", "create_sandbox", 1)}),
        (made.sandboxed, {("", "launch_agent", 1)}),
        (made.agent_up, {("", "attest", 1)}),
        (made.attested, set()),
        (made.container, {(APP, "decrypt_image", 1)}),
        (made.decrypted, {(APP, "seal_fs", 1)}),
        (made.sealed, set()),
        (made.start, {(APP, "deliver_config", 1), (APP, "start_app", 1)}),
        (made.app_started, {(APP, "deliver_config", 1)}),
        (made.delivered, {(APP, "boot_app", 1)}),
        (made.booted, set()),
    ]
    for say, expected in steps:
        assert waits(say()) == expected, say.__name__


def test_a_container_that_is_asked_for_early_waits_for_its_pod(made: History) -> None:
    made.requested()
    assert waits(made.container()) == {("", "create_sandbox", 1)}
    made.sandboxed()
    made.agent_up()
    assert waits(made.attested()) == {(APP, "decrypt_image", 1)}


def test_a_pod_is_where_its_least_advanced_live_container_is(made: History) -> None:
    made.up_to_booted()
    assert made.container(SIDECAR).state is State.ATTESTED
    assert made.decrypted(SIDECAR).state is State.IMAGE_DECRYPTED
    made.failed("seal_fs", container=SIDECAR)
    assert made.launch().state is State.APP_BOOTED
    assert made.exited().state in (State.FAILED, State.EXITED)


def test_what_was_delivered_may_be_told_before_the_host_tells_what_it_started(made: History) -> None:
    """The two halves are told by two processes; StartContainer needs the pid that the host's half brings."""
    made.up_to_sealed()
    made.start()
    assert waits(made.delivered()) == {(APP, "boot_app", 1), (APP, HOST_HALF.name, 1)}
    assert waits(made.booted()) == {(APP, HOST_HALF.name, 1)}
    launch = made.app_started()
    assert (launch.state, launch.ignored, waits(launch)) == (State.APP_BOOTED, (), set())
    assert launch.containers[APP].started is not None


def test_deadlines_run_from_when_the_step_could_begin(made: History) -> None:
    made.up_to_sealed()
    made.say(events.StartRequested(), container=APP, after_ms=3_600_000)
    assert {step.deadline_ns - made.now_ns for step in awaited(made.launch())} == {60 * 10**9}


# --- rule 0: what is no fact ------------------------------------------------------------------------------------------


def test_a_message_that_is_no_fact_is_passed_over_and_has_no_place_in_the_chain(made: History) -> None:
    made.requested()
    launch = made.garbage(b'{"stream":"EV","seq":1}')
    assert (launch.index, launch.sequence) == (1, 2)
    assert launch.ignored[0].kind == "foreign"
    assert made.sandboxed().state is State.SANDBOX


# --- rules 1 and 2: the chain -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"index": 1}, {"index": 3}, {"previous": b""}, {"previous": b"\1" * 32}, {"pod": "another"}],
    ids=["repeated", "lost", "no-previous", "edited", "another-pods"],
)
def test_a_chain_that_does_not_hold_is_refused(made: History, wrong: dict[str, object]) -> None:
    made.requested()
    with pytest.raises(Permanent) as caught:
        made.say(events.StopRequested("x"), **wrong)  # type: ignore[arg-type]
    assert caught.value.code is Code.BUS_HISTORY


def test_a_lost_message_is_noticed_at_the_next(made: History) -> None:
    made.up_to_booted()
    for lost in range(len(made.raw) - 1):
        with pytest.raises(Permanent, match="E-BUS-003"):
            fold(POD, (events.read(n, raw) for n, raw in enumerate(made.raw, 1) if n != lost + 1))


def test_one_flipped_bit_is_noticed_in_every_message_but_the_last(made: History) -> None:
    """The last one has no successor: that is what exported heads and the audit log are for."""
    made.up_to_booted()
    for number in range(len(made.raw) - 1):
        altered = list(made.raw)
        altered[number] = altered[number][:-1] + bytes([altered[number][-1] ^ 1])
        records = [events.read(n, raw) for n, raw in enumerate(altered, 1)]
        with pytest.raises(Permanent, match="E-BUS-003"):
            fold(POD, records)


# --- rules 3 and 4: who may say what ----------------------------------------------------------------------------------


def forged(launch: Launch) -> bool:
    return launch.failure is not None and launch.failure.diagnosis.code is Code.FACT_FORGED


ENCLAVE_STEPS = ["decrypted", "sealed", "delivered", "booted"]


def up_to(made: History, step: str) -> None:
    made.up_to_attested()
    made.container()
    for name in ENCLAVE_STEPS[: ENCLAVE_STEPS.index(step)]:
        getattr(made, name)()
        if name == "sealed":
            made.start()
            made.app_started()


def body_of(made: History, step: str) -> events.Body:
    """What the enclave would say next."""
    ghost = History(made.pod, made.key)
    ghost.raw, ghost.now_ns = list(made.raw), made.now_ns
    getattr(ghost, step)()
    last = ghost.records()[-1]
    assert not isinstance(last, Foreign)
    return last.fact.body


@pytest.mark.parametrize("step", ENCLAVE_STEPS)
@pytest.mark.parametrize("how", ["unsigned", "another-key", "as-host"])
def test_an_enclaves_fact_that_the_enclave_did_not_state_fails_the_launch(made: History, step: str, how: str) -> None:
    up_to(made, step)
    before, body = made.launch(), body_of(made, step)
    zone = Zone.HOST if how == "as-host" else Zone.ENCLAVE
    sign = EventKey().sign if how == "another-key" else None
    launch = made.say(body, container=APP, attempt=1, zone=zone, sign=sign, signed=how != "unsigned")
    assert forged(launch)
    assert launch.containers[APP].progress.passed == before.containers[APP].progress.passed
    assert waits(launch) == {("", TEARDOWN.name, 1)}


def test_a_signed_fact_that_is_moved_to_another_place_is_forged(made: History) -> None:
    made.up_to_attested()
    made.container()
    made.decrypted()
    signed = made.records()[-1]
    assert not isinstance(signed, Foreign)
    made.container(SIDECAR)
    before = made.launch()
    moved = replace(signed, sequence=99, index=before.index + 1, previous=before.head)
    assert forged(apply(before, moved))


def test_the_attested_key_must_sign_and_be_bound_by_its_own_quote(made: History) -> None:
    for step in (made.requested, made.sandboxed, made.agent_up):
        step()
    good, other = history.attested(POD, made.key), EventKey()
    wrong = [
        replace(good, event_public_key=other.public),
        replace(good, quote=history.quote("another pod", made.key.public)),
        replace(good, quote=history.quote(POD, other.public)),
        replace(good, measurement="00" * 32),
        replace(good, quote=b"short"),
        replace(good, quote=good.quote[:48] + b"\xff" * 384),
        replace(good, event_public_key=b"short"),
    ]
    for body in wrong:
        ghost = History(made.pod, made.key)
        ghost.raw = list(made.raw)
        launch = ghost.say(body, attempt=1)
        assert forged(launch), body
        assert launch.attested is None
    assert made.say(good, attempt=1, sign=other.sign).attested is None


def test_an_enclave_cannot_say_what_is_the_hosts_to_say(made: History) -> None:
    made.requested()
    body = events.SandboxCreated(POD, 1, "x")
    assert forged(made.say(body, attempt=1, zone=Zone.ENCLAVE, signed=False))


def test_a_step_may_fail_unsigned_before_there_is_a_key_and_not_after(made: History) -> None:
    for step in (made.requested, made.sandboxed, made.agent_up):
        step()
    made.failed("attest", zone=Zone.ENCLAVE, signed=False, temporary=True)
    assert made.launch().progress.attempt == 2
    made.attested(attempt=2)
    made.container()
    launch = made.failed("decrypt_image", container=APP, zone=Zone.ENCLAVE, signed=False)
    assert forged(launch)


def test_a_host_may_fail_any_step_because_it_may_stop_a_launch_anyway(made: History) -> None:
    made.up_to_attested()
    made.container()
    launch = made.failed("decrypt_image", container=APP)
    assert launch.containers[APP].progress.state is State.FAILED
    assert not forged(launch)


def test_a_forgery_after_the_stop_is_kept_and_changes_nothing(made: History) -> None:
    made.up_to_attested()
    made.container()
    made.stop()
    before = made.launch()
    launch = made.say(body_of_decrypted(), container=APP, attempt=1, signed=False)
    assert (launch.progress, len(launch.ignored)) == (before.progress, 1)


def body_of_decrypted() -> events.Body:
    return history.image_decrypted()


def test_a_forgery_before_the_request_fails_the_launch_all_the_same(made: History) -> None:
    made.say(events.AppBooted(1, 1), container=APP, attempt=1, signed=False)
    assert waits(made.launch()) == set()
    assert forged(made.requested())
    assert waits(made.launch()) == {("", TEARDOWN.name, 1)}


# --- rule 5: only what is awaited -------------------------------------------------------------------------------------


def test_nothing_is_awaited_of_a_pod_that_nobody_requested(made: History) -> None:
    for say in (made.sandboxed, made.container, made.stop, made.agent_lost, made.exited):
        assert waits(say()) == set()
    assert made.launch().containers == {}


def test_doubled_late_and_early_facts_change_nothing_and_are_listed(made: History) -> None:
    made.requested()
    early = made.agent_up()
    assert early.state is State.REQUESTED
    made.sandboxed()
    doubled = made.sandboxed()
    assert doubled.state is State.SANDBOX
    late = made.sandboxed(attempt=2)
    assert late.state is State.SANDBOX
    assert whys(late) == [
        "launch_agent attempt 1 was not awaited",
        "create_sandbox attempt 1 was not awaited",
        "create_sandbox attempt 2 was not awaited",
    ]


def test_a_late_answer_of_an_attempt_that_was_given_up_counts_for_nothing(made: History) -> None:
    made.up_to_attested()
    made.container()
    made.failed("decrypt_image", container=APP, temporary=True)
    late = made.decrypted(attempt=1)
    assert (late.state, whys(late)) == (State.ATTESTED, ["decrypt_image attempt 1 was not awaited"])
    assert made.decrypted(attempt=2).state is State.IMAGE_DECRYPTED


def test_each_transition_begins_with_its_first_attempt(made: History) -> None:
    made.requested()
    made.failed("create_sandbox", temporary=True)
    assert waits(made.sandboxed(attempt=2)) == {("", "launch_agent", 1)}
    assert made.launch().progress.passed[0].attempts == 2


def test_the_pod_and_a_container_are_requested_once(made: History) -> None:
    made.requested()
    again = made.say(history.pod_requested("other-node"))
    assert again.requested is not None
    assert again.requested.node == history.NODE
    made.container()
    assert len(made.container().ignored) == 2


def test_a_kind_of_fact_from_a_later_version_is_passed_over(made: History) -> None:
    made.requested()
    statement = events.encode_statement(
        events.Fact(POD, events.StartRequested(), Zone.HOST, "later", at_ns=made.now_ns)
    )
    later = statement.replace(b"\xda\x01\x00", b"\xca\x3e\x00")  # field 27 becomes field 1001
    assert later != statement
    envelope = events.facts_pb2.Envelope(
        id=b"x" * 16, index=2, previous=made.launch().head, statement=later
    ).SerializeToString()
    launch = made.garbage(envelope)
    assert (launch.index, launch.ignored[0].kind) == (2, "unknown")
    assert made.sandboxed().state is State.SANDBOX


# --- failures and retries ---------------------------------------------------------------------------------------------


def test_a_temporary_failure_is_awaited_again_later_and_later_until_its_attempts_are_used(made: History) -> None:
    for step in (made.requested, made.sandboxed, made.agent_up):
        step()
    pauses = []
    for attempt in range(1, 5):
        made.failed("attest", attempt=attempt, temporary=True, zone=Zone.ENCLAVE, signed=False)
        (step,) = awaited(made.launch())
        assert step.key == ("", "attest", attempt + 1)
        assert step.deadline_ns == step.not_before_ns + 60 * 10**9
        pauses.append(step.not_before_ns - made.now_ns)
    assert pauses == [BACKOFF_NS << n for n in range(4)]
    launch = made.failed("attest", attempt=5, temporary=True, zone=Zone.ENCLAVE, signed=False)
    assert launch.failure is not None
    assert (launch.state, launch.failure.transition, launch.failure.attempt) == (State.FAILED, "attest", 5)


def test_a_permanent_failure_ends_it_at_once_with_its_diagnosis(made: History) -> None:
    made.requested()
    launch = made.failed("create_sandbox")
    assert launch.failure is not None
    assert launch.failure.diagnosis.code is Code.RUNTIME
    assert launch.failure.diagnosis.text().startswith("E-RUNTIME-001: create_sandbox did not succeed\n  expected:")
    assert waits(launch) == {("", TEARDOWN.name, 1)}


def test_what_lives_in_one_enclaves_memory_is_not_tried_twice(made: History) -> None:
    made.up_to_attested()
    made.container()
    made.decrypted()
    launch = made.failed("seal_fs", container=APP, temporary=True)
    assert launch.containers[APP].progress.state is State.FAILED


def test_a_code_of_a_later_version_is_read_as_a_failure_all_the_same(made: History) -> None:
    made.requested()
    body = history.step_failed("create_sandbox", code="E-FUTURE-999")
    launch = made.say(body, attempt=1)
    assert launch.failure is not None
    assert launch.failure.diagnosis.code is Code.INTERNAL


def test_the_first_failure_is_the_one_that_is_told(made: History) -> None:
    made.requested()
    made.failed("create_sandbox")
    launch = made.say(events.AppBooted(1, 1), container=APP, signed=False)
    assert launch.failure is not None
    assert launch.failure.transition == "create_sandbox"


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_failed_launch_is_torn_down_and_stays_visible_until_somebody_removes_it(made: History) -> None:
    made.requested()
    made.failed("create_sandbox")
    launch = made.torn_down()
    assert (launch.state, waits(launch)) == (State.FAILED, set())
    assert waits(made.stop()) == {("", TEARDOWN.name, 2)}
    assert made.torn_down(attempt=2).state is State.GONE


def test_a_stopped_pod_is_torn_down_with_its_containers(made: History) -> None:
    made.up_to_booted()
    assert made.stop().state is State.STOPPING
    launch = made.torn_down()
    assert (launch.state, launch.containers[APP].progress.state, waits(launch)) == (State.GONE, State.GONE, set())


def test_a_teardown_is_tried_until_it_is_done(made: History) -> None:
    made.requested()
    made.stop()
    for attempt in range(1, 15):
        made.failed(TEARDOWN.name, attempt=attempt)
        (step,) = awaited(made.launch())
        assert step.attempt == attempt + 1
        assert step.not_before_ns - made.now_ns <= 32 * 10**9
    assert made.torn_down(attempt=15).state is State.GONE


def test_one_container_is_removed_and_the_pod_goes_on(made: History) -> None:
    made.up_to_booted()
    made.up_to_sealed(SIDECAR)
    assert waits(made.stop(APP)) == {(APP, TEARDOWN.name, 1)}
    launch = made.torn_down(APP)
    assert launch.containers[APP].progress.state is State.GONE
    assert launch.state is State.FS_SEALED


def test_a_failed_container_of_a_failed_pod_can_still_be_removed(made: History) -> None:
    """The kubelet removes containers before sandboxes; a removal that nobody executed would never be answered."""
    made.up_to_attested()
    made.container()
    made.failed("decrypt_image", container=APP)
    made.torn_down(APP)
    made.agent_lost()
    made.torn_down()
    assert waits(made.stop(APP)) == {(APP, TEARDOWN.name, 2)}
    assert made.torn_down(APP, attempt=2).containers[APP].progress.state is State.GONE


def test_nothing_of_a_pod_that_is_gone_is_left_to_be_removed(made: History) -> None:
    made.up_to_attested()
    made.container()
    made.failed("decrypt_image", container=APP)
    made.torn_down(APP)
    made.stop()
    launch = made.torn_down()
    assert launch.containers[APP].progress.state is State.GONE
    assert waits(made.stop(APP)) == set()


def test_the_exit_of_the_workload_is_kept_and_fails_nothing(made: History) -> None:
    made.up_to_booted()
    launch = made.exited(code=3)
    assert launch.containers[APP].progress.exit is not None
    assert (launch.containers[APP].progress.state, launch.failure) == (State.EXITED, None)
    assert launch.containers[APP].progress.exit.code == 3
    assert len(made.exited().ignored) == 1


def test_an_app_enclave_that_ends_before_it_booted_is_a_failure(made: History) -> None:
    made.up_to_sealed()
    made.start()
    made.app_started()
    launch = made.exited(code=1)
    assert launch.failure is not None
    assert (launch.failure.diagnosis.code, launch.failure.transition) == (Code.BOOT_LOST, "deliver_config")
    assert waits(launch) == {(APP, TEARDOWN.name, 1)}


def test_an_app_enclave_that_ends_because_its_pod_is_removed_is_no_failure(made: History) -> None:
    made.up_to_sealed()
    made.start()
    made.app_started()
    made.stop()
    launch = made.exited(code=137)
    assert (launch.containers[APP].progress.state, launch.failure) == (State.EXITED, None)
    assert made.torn_down().containers[APP].progress.state is State.GONE


def test_the_end_of_the_pause_container_stops_the_pod_at_once(made: History) -> None:
    made.requested()
    made.failed("create_sandbox", temporary=True)
    made.sandboxed(attempt=2)
    made.failed("launch_agent", temporary=True)
    launch = made.exited("")
    (step,) = awaited(launch)
    assert step.key == ("", TEARDOWN.name, 1)
    assert step.not_before_ns <= made.now_ns
    assert launch.progress.stop_reason == "the sandbox's pause container exited"


def test_without_its_agent_a_pod_that_runs_nothing_has_failed(made: History) -> None:
    made.up_to_sealed()
    launch = made.agent_lost()
    assert launch.failure is not None
    assert launch.failure.diagnosis.code is Code.AGENT_LOST
    assert waits(launch) == {("", TEARDOWN.name, 1)}


def test_without_its_agent_what_runs_goes_on_and_nothing_new_starts(made: History) -> None:
    made.up_to_booted()
    made.container(SIDECAR)
    launch = made.agent_lost()
    assert launch.state is State.APP_BOOTED
    assert launch.containers[SIDECAR].progress.state is State.FAILED
    third = made.container("2d" * 32)
    assert third.containers["2d" * 32].progress.failure is not None


def test_a_pod_is_stopped_once(made: History) -> None:
    made.requested()
    made.stop()
    assert whys(made.stop()) == ["nothing is there to be stopped"]
    made.torn_down()
    assert len(made.stop().ignored) == 2


def test_an_empty_history_is_a_launch_before_anything_happened() -> None:
    assert fold(POD, []) == new(POD)
    assert awaited(new(POD)) == ()
