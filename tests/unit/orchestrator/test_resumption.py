"""What failed goes on only where it is held, by an operator's order, and with nothing that was used before."""

from __future__ import annotations

import pytest

from orchestrator import events
from orchestrator.events import Foreign
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch, awaited, held
from orchestrator.lifecycle import HOLD, State, Zone
from orchestrator.resumption import resumable
from orchestrator.verify import verify
from tests.simulators import history
from tests.simulators.history import APP, OTHER_POD, SIDECAR, EventKey, History

SECOND = 10**9


def waits(launch: Launch) -> set[tuple[str, str, int]]:
    return {step.key for step in awaited(launch)}


def failed(made: History, transition: str, container: str = APP, attempt: int = 1) -> Launch:
    return made.failed(transition, container=container, attempt=attempt, zone=Zone.ENCLAVE)


@pytest.fixture
def made() -> History:
    """A container of a pod that asks for a minute's hold, whose image could not be decrypted."""
    made = History()
    made.up_to_attested(hold_seconds=60)
    made.container()
    failed(made, "decrypt_image")
    return made


# --- the hold ---------------------------------------------------------------------------------------------------------


def test_what_failed_is_held_and_nobody_is_asked_to_remove_it(made: History) -> None:
    launch = made.launch()
    (step,) = awaited(launch)
    assert (step.transition, step.container) == (HOLD, APP)
    assert step.not_before_ns == step.deadline_ns == made.now_ns + 60 * SECOND
    assert held(launch, launch.containers[APP].progress)


def test_without_a_hold_it_is_torn_down_at_once() -> None:
    made = History()
    made.up_to_attested()
    made.container()
    assert waits(failed(made, "decrypt_image")) == {(APP, "teardown", 1)}


def test_the_end_of_a_hold_is_a_stop_and_then_it_is_removed(made: History) -> None:
    assert waits(made.stop(APP, "held for 60 s")) == {(APP, "teardown", 1)}
    assert made.resume(APP).containers[APP].progress.state is State.STOPPING


def test_a_failure_of_the_hold_itself_can_be_stated_by_nobody(made: History) -> None:
    before = made.launch()
    after = made.failed("hold", container=APP, attempt=0)
    assert after.containers == before.containers
    assert awaited(after) == awaited(before)


def test_a_forged_fact_is_not_held() -> None:
    made = History()
    made.up_to_attested(hold_seconds=60)
    made.container()
    launch = made.say(history.image_decrypted(), container=APP, attempt=1, zone=Zone.HOST)
    assert waits(launch) == {("", "teardown", 1)}
    assert made.resume().failure == launch.failure


# --- a container ------------------------------------------------------------------------------------------------------


def test_a_resumed_container_begins_anew_in_attempts_never_used(made: History) -> None:
    launch = made.resume(APP)
    assert launch.failure is None
    assert launch.state is State.ATTESTED
    assert waits(launch) == {(APP, "decrypt_image", 2)}
    made.decrypted(attempt=2)
    assert waits(made.sealed(attempt=2)) == set()
    assert waits(made.start()) == {(APP, "start_app", 2), (APP, "deliver_config", 2)}
    made.app_started(attempt=2)
    made.delivered(attempt=2)
    assert made.booted(attempt=2).state is State.APP_BOOTED


@pytest.mark.parametrize("transition", ["seal_fs", "start_app", "deliver_config", "boot_app"])
def test_whichever_step_failed_a_container_begins_with_its_image(transition: str) -> None:
    made = History()
    made.up_to_attested(hold_seconds=60)
    made.container()
    made.decrypted()
    if transition != "seal_fs":
        made.sealed()
        made.start()
    if transition == "boot_app":
        made.app_started()
        made.delivered()
    zone = Zone.HOST if transition == "start_app" else Zone.ENCLAVE
    made.failed(transition, container=APP, attempt=1, zone=zone)
    launch = made.resume(APP)
    container = launch.containers[APP]
    assert waits(launch) == {(APP, "decrypt_image", 2)}
    assert (container.decrypted, container.sealed, container.started, container.delivered) == (None, None, None, None)
    assert bool(container.start_requested_ns) is (transition != "seal_fs")


def test_what_an_attempt_before_still_says_is_not_taken_for_the_new_ones(made: History) -> None:
    made.resume(APP)
    launch = made.decrypted(attempt=1)
    assert [entry.why for entry in launch.ignored] == ["decrypt_image attempt 1 was not awaited"]
    assert waits(launch) == {(APP, "decrypt_image", 2)}


def test_the_end_of_the_app_enclave_before_is_not_the_new_ones() -> None:
    made = History()
    made.up_to_attested(hold_seconds=60)
    for step in (made.container, made.decrypted, made.sealed, made.start, made.app_started):
        step()
    failed(made, "deliver_config")
    made.resume(APP)
    launch = made.exited(code=1)
    assert launch.containers[APP].progress.exit is None
    assert waits(launch) == {(APP, "decrypt_image", 2)}
    made.decrypted(attempt=2)
    made.sealed(attempt=2)
    made.app_started(attempt=2)
    assert made.exited(code=1).failure.diagnosis.code is Code.BOOT_LOST


def test_a_step_may_be_retried_as_often_again_after_each_resumption(made: History) -> None:
    made.resume(APP)
    for attempt in (2, 3, 4, 5):
        body = history.step_failed("decrypt_image", temporary=True)
        assert made.say(body, container=APP, attempt=attempt, zone=Zone.ENCLAVE).failure is None
    launch = made.say(body, container=APP, attempt=6, zone=Zone.ENCLAVE)
    assert launch.failure.attempt == 5
    assert waits(made.resume(APP)) == {(APP, "decrypt_image", 7)}


def test_other_containers_of_the_pod_are_left_alone(made: History) -> None:
    made.up_to_sealed(SIDECAR)
    assert waits(made.resume(APP)) == {(APP, "decrypt_image", 2)}
    assert made.launch().containers[SIDECAR].progress.state is State.FS_SEALED


# --- a pod ------------------------------------------------------------------------------------------------------------


def test_a_pod_goes_on_with_the_transition_that_failed() -> None:
    made = History()
    made.requested(hold_seconds=60)
    made.failed("create_sandbox")
    assert waits(made.resume()) == {("", "create_sandbox", 2)}
    made.sandboxed(attempt=2)
    made.failed("launch_agent", attempt=2)
    assert waits(made.resume()) == {("", "launch_agent", 3)}
    made.agent_up(attempt=3)
    failed(made, "attest", "", attempt=3)
    launch = made.resume()
    assert waits(launch) == {("", "attest", 4)}
    assert [passed.state for passed in launch.progress.passed] == [State.SANDBOX, State.AGENT_UP]


def test_a_pod_may_be_given_a_new_agent_and_its_containers_begin_anew() -> None:
    made = History()
    made.up_to_attested(hold_seconds=60)
    made.up_to_sealed()
    made.agent_lost()
    launch = made.resume()
    assert waits(launch) == {("", "launch_agent", 2)}
    assert (launch.agent, launch.attested, launch.agent_lost) == (None, None, False)
    assert launch.containers[APP].decrypted is None
    made.agent_up(attempt=2)
    made.key = EventKey()
    assert waits(made.attested(attempt=2)) == {(APP, "decrypt_image", 2)}
    launch = made.decrypted(attempt=2)
    assert launch.containers[APP].decrypted is not None
    assert launch.ignored == ()


def test_the_lost_agents_key_speaks_for_nobody_any_more() -> None:
    made = History()
    made.up_to_attested(hold_seconds=60)
    made.container()
    made.agent_lost()
    made.resume()
    lost, made.key = made.key, EventKey()
    made.agent_up(attempt=2)
    made.attested(attempt=2)
    launch = made.say(history.image_decrypted(), container=APP, attempt=2, sign=lost.sign)
    assert launch.failure.diagnosis.code is Code.FACT_FORGED


def test_what_two_agents_signed_and_what_an_operator_ordered_is_verified() -> None:
    made = History()
    made.up_to_attested(hold_seconds=60)
    made.up_to_sealed()
    made.agent_lost()
    made.resume()
    made.agent_up(attempt=2)
    made.key = EventKey()
    made.attested(attempt=2)
    made.decrypted(attempt=2)
    proved = " | ".join(verify(made.pod, made.records()).proved)
    assert "5 facts were signed by 2 keys, which their quotes bind to this pod" in proved
    assert "1 orders were signed by operators whom the launch names: host-worker/node-a (resume-requested)" in proved


def test_a_hold_counts_from_the_failure_whenever_the_process_ends_that_it_left(made: History) -> None:
    ends = hold_ends(made.launch())
    made.now_ns += 5 * SECOND
    assert hold_ends(made.exited(code=125)) == ends


def test_a_container_is_held_no_longer_than_its_pod(made: History) -> None:
    launch = made.stop()
    assert not held(launch, launch.containers[APP].progress)
    with pytest.raises(Permanent, match="its pod's agent is not there"):
        resumable(launch, APP)


def hold_ends(launch: Launch) -> int:
    return next(step.deadline_ns for step in awaited(launch) if step.transition is HOLD)


# --- orders that do not count -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["attest", "seal_fs", "teardown", "hold", "no such step"])
def test_a_place_where_it_cannot_begin_is_refused(made: History, start: str) -> None:
    before = made.launch()
    after = made.resume(APP, start)
    assert after.containers == before.containers
    assert len(after.ignored) == 1


def test_an_order_by_a_stranger_changes_nothing_and_fails_nothing(made: History) -> None:
    before = made.launch()
    for stranger in (EventKey(), made.key):
        after = made.resume(APP, operator=stranger)
        assert (after.containers, after.progress) == (before.containers, before.progress)
    assert {entry.why for entry in after.ignored} == {"its signer is no operator whom this launch names"}


def test_an_order_that_was_not_signed_or_stood_elsewhere_changes_nothing(made: History) -> None:
    body = events.ResumeRequested("", "why", "alice", history.OPERATOR.public)
    unsigned = made.say(body, container=APP)
    assert unsigned.containers[APP].progress.state is State.FAILED
    elsewhere = History()
    elsewhere.up_to_attested(hold_seconds=60)
    elsewhere.container()
    failed(elsewhere, "decrypt_image")
    signature = next(
        record.signature
        for record in (elsewhere.resume(APP), *elsewhere.records()[-1:])
        if not isinstance(record, Launch | Foreign)
    )
    replayed = made.say(body, container=APP, sign=lambda _: signature)
    assert replayed.containers[APP].progress.state is State.FAILED
    assert {entry.why for entry in replayed.ignored} == {"the signature does not verify under the operator's key"}


def test_an_order_by_an_enclave_is_a_forgery(made: History) -> None:
    body = events.ResumeRequested("", "why", "alice", history.OPERATOR.public)
    launch = made.say(body, container=APP, zone=Zone.ENCLAVE, sign=history.OPERATOR.sign)
    assert launch.failure.diagnosis.code is Code.FACT_FORGED


def test_a_launch_that_names_nobody_takes_orders_from_nobody() -> None:
    made = History()
    made.up_to_attested()
    made.container()
    failed(made, "decrypt_image")
    assert made.resume(APP).containers[APP].progress.state is State.FAILED


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        (lambda made: None, "nothing of it has failed"),
        (lambda made: (failed(made, "decrypt_image"), made.stop(APP)), "removed, or about to be"),
        (lambda made: (failed(made, "decrypt_image"), made.agent_lost()), "its pod's agent is not there"),
        (lambda made: (failed(made, "decrypt_image"), made.stop()), "removed, or about to be|agent is not there"),
    ],
)
def test_why_it_cannot_be_resumed_is_said(steps: object, why: str) -> None:
    made = History()
    made.up_to_attested(hold_seconds=60)
    made.container()
    steps(made)  # type: ignore[operator]
    with pytest.raises(Permanent, match=why) as refused:
        resumable(made.launch(), APP)
    assert refused.value.code is Code.REPLAY_RESUME


# --- forks ------------------------------------------------------------------------------------------------------------


def test_only_a_new_launch_of_another_pod_is_a_fork() -> None:
    made = History()
    assert made.forked().forked is not None
    assert made.forked().ignored != ()
    late = History()
    late.requested()
    assert late.forked().forked is None
    own = History(OTHER_POD)
    assert own.forked(OTHER_POD).forked is None


def test_a_fork_waits_for_nothing_until_somebody_asks_for_its_pod() -> None:
    made = History()
    assert awaited(made.forked()) == ()
    assert waits(made.requested()) == {("", "create_sandbox", 1)}
