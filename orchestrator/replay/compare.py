"""Two launches side by side: where their ways part, and what was different before.

Zone: any. May import: `orchestrator.{launch,lifecycle,story}`, the standard library. Pure.

"Why did this one fail and that one not" is answered by the first step that came out differently, and by what the two
launches were given: a difference in the image, the policy or the enclave that stands before that step is a candidate
for the cause; one that stands after it is a consequence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from orchestrator.launch import Container, Launch
from orchestrator.lifecycle import TRANSITIONS
from orchestrator.story import LaunchStory, Outcome, Step

_CHECK: Final = "; expected "
"""Between what failed and the check's own words, which a sentence leaves out."""

SLOWER: Final = 3
"""A step that took so many times as long as the other's is told; less is noise between two runs."""

_NOTICED_NS: Final = 500_000_000
"""And only where it took longer than this."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs. `step` is the number of the step it belongs to, 0 for what was asked for at first."""

    step: int
    where: str
    what: str
    one: str
    other: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """`verdict` is a sentence. `parts_at` is where the outcomes first differ, or None; `before` may explain it."""

    verdict: str
    parts_at: Difference | None
    before: tuple[Difference, ...]
    after: tuple[Difference, ...]


def compare(one: LaunchStory, other: LaunchStory) -> Comparison:
    """Compare two told launches; containers are paired by name, then in the order in which they were asked for."""
    pairs = _containers(one.launch, other.launch)
    found = sorted(_given(one, other, pairs), key=lambda difference: difference.step)
    outcomes = list(_outcomes(one, other, pairs))
    parted = outcomes[0] if outcomes else None
    if parted is None:
        return Comparison(_same(one, other, found), None, tuple(found), tuple(_slower(one, other, pairs)))
    before = tuple(difference for difference in found if difference.step <= parted.step)
    after = tuple(difference for difference in found if difference.step > parted.step)
    return Comparison(_parted(one, other, parted, before), parted, before, (*outcomes[1:], *after))


_Pair = tuple[Container | None, Container | None]


def _containers(one: Launch, other: Launch) -> list[_Pair]:
    left = list(other.containers.values())
    pairs: list[_Pair] = []
    unpaired: list[Container] = []
    for container in one.containers.values():
        name = container.requested.name
        twin = next((c for c in left if name and c.requested.name == name), None)
        if twin is not None:
            left.remove(twin)
            pairs.append((container, twin))
        else:
            unpaired.append(container)
    return pairs + list(zip_longest(unpaired, left))


# --- what they were given ---------------------------------------------------------------------------------------------


def _given(one: LaunchStory, other: LaunchStory, pairs: list[_Pair]) -> Iterator[Difference]:
    yield from _differ("pod", _of_pod(one.launch), _of_pod(other.launch))
    for mine, theirs in pairs:
        where = _name(mine or theirs)
        if mine is None or theirs is None:
            yield Difference(4, where, "container", "asked for" if mine else "", "asked for" if theirs else "")
        else:
            yield from _differ(where, _of_container(mine), _of_container(theirs))


def _differ(where: str, one: list[tuple[int, str, str]], other: list[tuple[int, str, str]]) -> Iterator[Difference]:
    """What stands in only one is no difference in what was given: the other did not come so far."""
    theirs = {(step, what): value for step, what, value in other}
    for step, what, value in one:
        if (step, what) in theirs and theirs[step, what] != value:
            yield Difference(step, where, what, value, theirs[step, what])


def _of_pod(launch: Launch) -> list[tuple[int, str, str]]:
    """(step, what, value): the step is the place of the transition in `lifecycle` to which it was given, from 1."""
    told: list[tuple[int, str, str]] = []
    if asked := launch.requested:
        told += [
            (1, "node", asked.node),
            (1, "namespace", asked.namespace),
            (2, "init-data asked for", asked.init_data_sha256),
        ]
    if agent := launch.agent:
        told += [(2, "LibOS", agent.libos), (2, "agent bundle", agent.bundle_sha256), (2, "measurement expected",
                 agent.measurement)]  # fmt: skip
    if proof := launch.attested:
        told += [
            (3, "measurement", proof.measurement),
            (3, "TCB status", proof.tcb_status),
            (3, "simulated", "yes" if proof.simulated else "no"),
            (3, "key broker", proof.kbs),
        ]
    return told


def _of_container(container: Container) -> list[tuple[int, str, str]]:
    asked = container.requested
    told: list[tuple[int, str, str]] = [(4, "image", asked.image), (6, "process asked for", asked.process_sha256)]
    if image := container.decrypted:
        told += [
            (4, "image digest", image.manifest_digest),
            (4, "image policy", image.policy),
            (4, "image verdict", image.verdict),
            (4, "layer keys", ", ".join(image.key_ids)),
        ]
    if container.sealed:
        told.append((5, "files", str(container.sealed.files)))
    if container.started:
        told.append((6, "app measurement expected", container.started.measurement))
    if delivered := container.delivered:
        told += [(6, "app measurement", delivered.measurement), (6, "process verdict", delivered.verdict)]
    return told


def _name(container: Container | None) -> str:
    return (container.requested.name or container.id[:12]) if container else "pod"


# --- what came out ----------------------------------------------------------------------------------------------------

_PLACE: Final = {row.name: number for number, row in enumerate(TRANSITIONS, 1)}


def _outcomes(one: LaunchStory, other: LaunchStory, pairs: list[_Pair]) -> Iterator[Difference]:
    """The steps that came out differently, in the order of the launch."""
    for mine, theirs in _steps(one, other, pairs):
        if _came_out(mine) != _came_out(theirs):
            yield _difference(mine, theirs, one, _outcome(mine, one), _outcome(theirs, other))


def _slower(one: LaunchStory, other: LaunchStory, pairs: list[_Pair]) -> Iterator[Difference]:
    for mine, theirs in _steps(one, other, pairs):
        short, long = sorted((mine.nanoseconds, theirs.nanoseconds))
        if long > max(_NOTICED_NS, SLOWER * short):
            took = [f"{step.nanoseconds / 1e6:.0f} ms" for step in (mine, theirs)]
            yield _difference(mine, theirs, one, took[0], took[1])


def _steps(one: LaunchStory, other: LaunchStory, pairs: list[_Pair]) -> Iterator[tuple[Step, Step]]:
    """The pod's steps, then those of each pair of containers, side by side."""
    yield from zip(one.steps_of(""), other.steps_of(""), strict=True)
    for mine, theirs in pairs:
        if mine and theirs:
            yield from zip(one.steps_of(mine.id), other.steps_of(theirs.id), strict=True)


def _difference(mine: Step, theirs: Step, told: LaunchStory, one: str, other: str) -> Difference:
    where = told.name_of(mine.container) if mine.container else "pod"
    return Difference(_PLACE[theirs.transition.name], where, mine.transition.name, one, other)


def _came_out(step: Step) -> tuple[Outcome, tuple[str, ...]]:
    return step.outcome, tuple(attempt.diagnosis.code for attempt in step.failed if attempt.counted)


def _outcome(step: Step, told: LaunchStory) -> str:
    codes = [attempt.diagnosis.code.value for attempt in step.failed if attempt.counted]
    failure = next((f.failure for f in told.failures if f.failure.transition == step.transition.name), None)
    if step.outcome is Outcome.FAILED and failure is not None:
        d = failure.diagnosis
        return f"failed: {d.code} {d.message}{_CHECK}{d.expected or '-'}; got {d.got or '-'}"
    tries = f" at attempt {step.attempts} after {', '.join(codes)}" if codes else ""
    return f"{step.outcome}{tries}"


def _parted(one: LaunchStory, other: LaunchStory, parted: Difference, before: tuple[Difference, ...]) -> str:
    reason = ", ".join(dict.fromkeys(f"{difference.what} ({difference.where})" for difference in before))
    given = f"before it they differ in {reason}" if reason else "up to there they were given the same"
    here, there = (side.partition(_CHECK)[0] for side in (parted.one, parted.other))
    return f"{one.title} and {other.title} part at {parted.what} of {parted.where}: {here} here, {there} there; {given}"


def _same(one: LaunchStory, other: LaunchStory, found: list[Difference]) -> str:
    if not found:
        return f"{one.title} and {other.title} were given the same and every step came out the same"
    return f"{one.title} and {other.title}: every step came out the same, though they were not given the same"
