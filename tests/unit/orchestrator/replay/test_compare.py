"""Why did this one fail and that one not: the step at which two launches part, and what was different before it."""

from __future__ import annotations

from dataclasses import replace

from orchestrator import events
from orchestrator.lifecycle import Zone
from orchestrator.replay.compare import Comparison, compare
from orchestrator.story import LaunchStory, describe
from tests.simulators import history
from tests.simulators.history import APP, SIDECAR, History

OTHER = "b2" * 32


def story(made: History) -> LaunchStory:
    return describe(made.launch(), made.records())


def compared(one: History, other: History) -> Comparison:
    return compare(story(one), story(other))


def booted(pod: str = history.POD) -> History:
    made = History(pod)
    made.up_to_booted()
    return made


def denied(image: str = "127.0.0.1:5000/redis:7") -> History:
    made = History(OTHER)
    made.up_to_attested()
    made.say(replace(history.container_requested(APP), image=image), container=APP)
    body = events.StepFailed("decrypt_image", "E-KEY-002", "denied", "a policy that allows", "PolicyDeny", "ask", False)
    made.say(body, container=APP, attempt=1, zone=Zone.ENCLAVE)
    return made


def test_two_launches_of_the_same_do_not_part() -> None:
    found = compared(booted(), booted(OTHER))
    assert found.parts_at is None
    assert found.before == ()
    assert found.verdict.endswith("were given the same and every step came out the same")


def test_a_failed_and_a_booted_launch_part_at_the_failing_step_with_its_own_words() -> None:
    found = compared(denied(), booted())
    assert found.parts_at is not None
    assert (found.parts_at.where, found.parts_at.what) == ("redis", "decrypt_image")
    assert "E-KEY-002 denied; expected a policy that allows; got PolicyDeny" in found.parts_at.one
    assert found.parts_at.other == "done"
    assert found.before == ()
    assert "up to there they were given the same" in found.verdict


def test_what_was_given_before_they_part_is_the_candidate_for_the_cause() -> None:
    found = compared(denied("127.0.0.1:5000/redis:8"), booted())
    assert [(d.what, d.one, d.other) for d in found.before] == [
        ("image", "127.0.0.1:5000/redis:8", "127.0.0.1:5000/redis:7")
    ]
    assert "before it they differ in image (redis)" in found.verdict


def test_what_differs_after_they_part_is_no_candidate() -> None:
    one = History(OTHER)
    one.requested()
    one.sandboxed()
    one.failed("launch_agent", attempt=1, temporary=True)
    one.agent_up(attempt=2)
    one.attested()
    other = History()
    other.up_to_attested()
    found = compared(one, other)
    assert found.parts_at is not None
    assert found.parts_at.what == "launch_agent"
    assert found.parts_at.one == "done at attempt 2 after E-RUNTIME-001"
    assert found.before == ()


def test_containers_are_paired_by_name_and_a_missing_one_is_told() -> None:
    one, other = booted(), booted(OTHER)
    other.container(SIDECAR)
    found = compared(one, other)
    assert [(d.what, d.one, d.other) for d in found.before] == [("container", "", "asked for")]


def test_a_step_that_took_much_longer_is_told() -> None:
    slow = History(OTHER)
    slow.up_to_attested()
    slow.container()
    slow.say(history.image_decrypted(), container=APP, attempt=1, after_ms=9_000)
    quick = History()
    quick.up_to_attested()
    quick.container()
    quick.decrypted()
    found = compared(slow, quick)
    assert [(d.what, d.one, d.other) for d in found.after] == [("decrypt_image", "9000 ms", "850 ms")]
