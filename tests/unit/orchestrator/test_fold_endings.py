"""How launches end: failures, retries, removals, exits, a lost agent."""

from __future__ import annotations

import pytest

from orchestrator import events
from orchestrator.faults import Code
from orchestrator.fold import BACKOFF_NS, fold
from orchestrator.launch import Launch, awaited, new
from orchestrator.lifecycle import TEARDOWN, State, Zone
from tests.simulators import history
from tests.simulators.history import APP, POD, SIDECAR, History


def waits(launch: Launch) -> set[tuple[str, str, int]]:
    return {step.key for step in awaited(launch)}


def whys(launch: Launch) -> list[str]:
    return [entry.why for entry in launch.ignored]


@pytest.fixture
def made() -> History:
    return History()


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


def test_an_app_enclave_whose_memory_ran_out_before_it_booted_says_so(made: History) -> None:
    made.up_to_sealed()
    made.start()
    made.app_started()
    launch = made.exited(code=137, out_of_memory=True)
    assert launch.failure is not None
    assert launch.failure.diagnosis.code is Code.BOOT_LOST
    assert launch.failure.diagnosis.message == "the app enclave ran out of memory before its workload had booted"
    assert "137" in launch.failure.diagnosis.got


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
