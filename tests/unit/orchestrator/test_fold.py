"""The fold, rule by rule: what counts, what is passed over, what fails a launch, what breaks a history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import events
from orchestrator.events import Foreign
from orchestrator.faults import Code, Permanent
from orchestrator.fold import apply, fold
from orchestrator.launch import Launch, awaited
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
