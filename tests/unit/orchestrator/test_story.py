"""What is told of a launch is what its history holds: times, attempts, verdicts, whose word, what changed."""

from __future__ import annotations

import pytest

from orchestrator import events
from orchestrator.cli.describe import lines
from orchestrator.faults import Code
from orchestrator.fold import fold
from orchestrator.launch import new
from orchestrator.lifecycle import State, Zone
from orchestrator.story import LaunchStory, Outcome, Signer, changes, describe
from tests.simulators.history import APP, MILLISECOND, OTHER_POD, SIDECAR, EventKey, History

SECOND = 10**9


def story(history: History) -> LaunchStory:
    return describe(history.launch(), history.records())


def test_a_whole_launch_is_seven_steps_whose_shares_are_all_of_its_time() -> None:
    history = History()
    history.up_to_booted()
    told = story(history)
    assert [step.transition.target for step in told.steps] == list(State)[1:8]
    assert {step.outcome for step in told.steps} == {Outcome.DONE}
    assert sum(step.share for step in told.steps) == pytest.approx(1)
    assert told.working_ns == sum(step.nanoseconds for step in told.steps)
    decrypt = next(step for step in told.steps if step.transition.name == "decrypt_image")
    assert (decrypt.nanoseconds, decrypt.attempts) == (850 * MILLISECOND, 1)
    assert told.verdict == "app-booted: every container runs"


def test_time_in_which_containerd_asked_for_nothing_is_nobodys() -> None:
    history = History()
    history.up_to_attested()
    history.now_ns += 3600 * SECOND
    history.up_to_sealed()
    history.now_ns += 3600 * SECOND
    for step in (history.start, history.app_started, history.delivered, history.booted):
        step()
    assert story(history).working_ns < 2 * SECOND


def test_failed_attempts_stand_with_their_step_and_late_ones_are_told_as_late() -> None:
    history = History()
    history.up_to_attested()
    history.container()
    history.failed("decrypt_image", container=APP, attempt=1, temporary=True)
    history.failed("decrypt_image", container=APP, attempt=1, temporary=True)
    history.decrypted(attempt=2)
    step = next(step for step in story(history).steps if step.transition.name == "decrypt_image")
    assert (step.outcome, step.attempts) == (Outcome.DONE, 2)
    assert [attempt.counted for attempt in step.failed] == [True, False]


def test_a_failure_is_told_with_what_failed_in_whom_and_what_to_do() -> None:
    history = History()
    history.up_to_booted()
    history.container(SIDECAR)
    history.failed("decrypt_image", container=SIDECAR)
    told = story(history)
    assert told.failure is not None
    assert (told.failure.container, told.failure.attempts_allowed) == (SIDECAR, 5)
    assert told.failure.failure.diagnosis.code is Code.RUNTIME
    assert told.failure.next_action
    assert told.verdict.startswith(
        "failed after attested, in decrypt_image (attempt 1) of container redis: E-RUNTIME-001"
    )
    failed = [step for step in told.steps_of(SIDECAR) if step.outcome is Outcome.FAILED]
    assert [step.transition.name for step in failed] == ["decrypt_image"]
    assert [step.outcome for step in told.steps_of(SIDECAR)[1:]] == [Outcome.NOT_REACHED] * 3


def test_who_said_what_and_on_whose_word() -> None:
    history = History()
    history.failed("attest")
    history.up_to_attested()
    history.up_to_sealed()
    history.say(events.AppBooted(1, 1), container=APP, attempt=1, signed=False)
    history.garbage(b"no fact")
    facts = story(history).facts
    assert [told.sequence for told in facts] == list(range(1, len(history.raw) + 1))
    assert {told.signer for told in facts if told.zone is Zone.HOST} == {Signer.UNSIGNED}
    assert [told.kind for told in facts if told.signer is Signer.EVENT_KEY] == [
        "attested",
        "image-decrypted",
        "fs-sealed",
    ]
    assert [told.kind for told in facts if told.signer is Signer.FORGED] == ["app-booted"]
    assert (facts[0].effect, facts[-1].kind) == ("attest attempt 1 was not awaited", "foreign")
    assert "no fact" in facts[-1].effect


def test_an_agents_failure_before_it_has_a_key_is_nobodys_signed_word() -> None:
    history = History()
    for step in (history.requested, history.sandboxed, history.agent_up):
        step()
    history.failed("attest", zone=Zone.ENCLAVE, temporary=True)
    history.attested(attempt=2)
    failed = story(history).facts[3]
    assert (failed.kind, failed.zone, failed.signer) == ("step-failed", Zone.ENCLAVE, Signer.UNSIGNED)


def test_what_a_replaced_agent_signed_stays_signed_and_the_order_is_told() -> None:
    history = History()
    history.up_to_attested(hold_seconds=60)
    history.up_to_sealed()
    history.agent_lost()
    history.resume()
    history.agent_up(attempt=2)
    history.failed("attest", zone=Zone.ENCLAVE, temporary=True, attempt=2)
    history.key = EventKey()
    history.failed("attest", zone=Zone.ENCLAVE, temporary=True, attempt=3)
    history.attested(attempt=4)
    history.stop(APP, reason="seen enough")
    told = story(history)
    assert [fact.kind for fact in told.facts if fact.signer is Signer.EVENT_KEY] == [
        "attested",
        "image-decrypted",
        "fs-sealed",
        "attested",
    ]
    assert [(order.what, order.container, order.signer, order.reason) for order in told.orders] == [
        ("resume", "", Signer.OPERATOR, "the key broker is back"),
        ("stop", APP, Signer.UNSIGNED, "seen enough"),
    ]


def test_a_fork_says_of_what_and_an_order_that_did_not_count_is_none() -> None:
    history = History()
    history.forked()
    history.requested(hold_seconds=60)
    history.resume()
    (order,) = story(history).orders
    assert order.what == f"fork of pod {OTHER_POD} at fact 4, with image=other"


def test_a_pod_that_lost_its_agent_after_its_own_steps_did_not_fail_in_its_history() -> None:
    history = History()
    history.up_to_sealed()
    history.agent_lost()
    told = story(history)
    assert told.verdict.startswith("failed after fs-sealed: E-AGENT-002 ")
    page = "\n".join(lines(told))
    assert "failed    the pod, in no step of its own; it had reached fs-sealed" in page
    assert "history" not in page


def test_verdicts_are_those_that_counted() -> None:
    history = History()
    history.up_to_booted()
    history.say(events.ConfigDelivered("aa" * 32, "allowed, says who", "bb"), container=APP, attempt=1)
    told = [(verdict.about, verdict.verdict) for verdict in story(history).verdicts]
    assert told == [
        ("enclave", "affirmed: TCB UpToDate, simulated"),
        ("image", "signed by kbs:///default/image-public-key/owner"),
        ("process", "allowed"),
    ]


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        (("requested",), "requested: waits for create_sandbox"),
        (("up_to_attested",), "attested: waits for containerd to ask for one"),
        (("up_to_sealed",), "fs-sealed: waits for containerd to start a container"),
        (("up_to_booted", "exited"), "exited: redis ended with status 0"),
        (
            ("up_to_booted", "stop", "torn_down"),
            "gone: it was stopped (removed by containerd); everything that was made for it has been removed",
        ),
    ],
)
def test_one_sentence_says_where_it_is(steps: tuple[str, ...], verdict: str) -> None:
    history = History()
    for step in steps:
        getattr(history, step)()
    assert story(history).verdict == verdict


def test_what_a_message_changed_is_what_the_folds_before_and_after_differ_in() -> None:
    history = History()
    history.up_to_attested()
    history.container()
    history.failed("decrypt_image", container=APP, attempt=1, temporary=True)
    history.decrypted(attempt=2)
    history.failed("seal_fs", container=APP, attempt=1)
    records = history.records()
    told = []
    before = new(history.pod)
    for number in range(1, len(records) + 1):
        after = fold(history.pod, records[:number])
        told.append([(change.what, change.before, change.after) for change in changes(before, after)])
        before = after
    assert ("state", "agent-up", "attested") in told[3]
    assert ("container", "", "asked for: 127.0.0.1:5000/redis:7") in told[4]
    assert ("attempt", "1", "2") in told[5]
    assert ("waits for", "decrypt_image, attempt 2 of 5", "") in told[6]
    assert ("waits for", "", "seal_fs, attempt 1 of 1") in told[6]
    assert ("failure", "", "E-RUNTIME-001 seal_fs did not succeed") in told[7]
    assert changes(before, before) == ()


def test_every_prefix_of_a_history_can_be_told() -> None:
    history = History()
    history.up_to_booted()
    history.exited(code=3)
    history.agent_lost()
    history.stop()
    history.torn_down()
    records = history.records()
    for number in range(len(records) + 1):
        told = describe(fold(history.pod, records[:number]), records[:number])
        assert len(told.facts) == number
        assert told.verdict


@pytest.mark.parametrize(
    ("steps", "container", "got"),
    [
        (("up_to_attested", "stop"), "", "removed by containerd"),
        (("up_to_sealed", "stop", "torn_down"), "", "removed by containerd"),
        (("up_to_booted", "stop", "torn_down"), None, ""),
        (("up_to_sealed",), None, ""),
    ],
)
def test_a_launch_that_was_ended_before_it_was_done_says_so_though_nothing_failed(
    steps: tuple[str, ...], container: str | None, got: str
) -> None:
    history = History()
    for step in steps:
        getattr(history, step)()
    told = story(history).stopped
    if container is None:
        assert told is None
        return
    assert told is not None
    assert (told.container, told.failure.diagnosis.code, told.failure.diagnosis.got) == (container, Code.STOPPED, got)
    assert told.causes[0].evident
    assert story(history).facts[told.failure.index - 1].kind == "stop-requested"


def test_of_a_pod_that_runs_a_container_that_ended_is_told() -> None:
    history = History()
    history.up_to_booted()
    history.up_to_booted(SIDECAR)
    history.exited(SIDECAR, 3)
    assert story(history).verdict == "app-booted: redis ended with status 3; every other container runs"


def test_a_container_that_was_stopped_before_it_ran_is_told_beside_a_pod_that_goes_on() -> None:
    history = History()
    history.up_to_sealed()
    history.stop(APP)
    told = story(history).stopped
    assert told is not None
    assert told.container == APP
