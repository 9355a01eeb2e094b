"""A row for every launch, folded from the stream and kept up to date.

Zone: host. May import: `orchestrator.{events,faults,fold,launch,lifecycle,story}`, `orchestrator.console.tally`.
No I/O: it is given batches by `serve`.

It keeps the fold of each launch that may still change, and of every launch one small row: ten thousand take some
20 MB. A page reads the whole history of the one launch it is about; lists are made from rows alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from orchestrator.console.tally import Tally
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Permanent
from orchestrator.fold import apply
from orchestrator.launch import Launch, new
from orchestrator.lifecycle import LAUNCH_STATES, State
from orchestrator.story import reached, title


class Group(StrEnum):
    """Where a launch is as an operator counts: each is in exactly one."""

    LAUNCHING = "launching"
    RUNNING = "running"
    FAILED = "failed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Row:
    """What a list shows of a launch. Times in nanoseconds, wall clock; `took_ns` is 0 until all its parts have booted.

    `steps` is how many of the seven states were reached, by what failed if anything did. `code` is of the failure, or
    empty. `searched` is lower-case.
    """

    pod: str
    title: str
    namespace: str
    name: str
    node: str
    state: State
    group: Group
    steps: int
    code: str
    message: str
    transition: str
    images: tuple[str, ...]
    began_ns: int
    changed_ns: int
    took_ns: int
    messages: int
    searched: str


@dataclass(slots=True)
class _Known:
    """A launch in the making; `launch` is None once nothing can change it any more."""

    launch: Launch | None
    began_ns: int = 0
    changed_ns: int = 0
    messages: int = 0
    broken: Permanent | None = None


class Index:
    """All rows, the newest launch last. `sequence` is that of the last message taken."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.tally = Tally()
        self.messages = 0
        self.sequence = 0
        self.caught_up = False
        self.groups: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.nodes: Counter[str] = Counter()
        self.namespaces: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self._known: dict[str, _Known] = {}

    def take(self, batch: Iterable[tuple[str, Recorded | Foreign]]) -> None:
        """Messages with their pods, in the order of the stream. One that was taken before changes nothing."""
        changed: dict[str, None] = {}
        for pod, message in batch:
            if message.sequence > self.sequence:
                self.sequence = message.sequence
                self.messages += 1
                self._fold(pod, message)
                changed[pod] = None
        for pod in changed:
            self._show(pod)

    def _fold(self, pod: str, message: Recorded | Foreign) -> None:
        known = self._known.setdefault(pod, _Known(new(pod)))
        known.messages += 1
        if isinstance(message, Recorded):
            known.began_ns = known.began_ns or message.fact.at_ns
            known.changed_ns = max(known.changed_ns, message.fact.at_ns)
        before = known.launch
        if before is None:
            return
        try:
            known.launch = apply(before, message)
        except Permanent as fault:  # the chain is broken: nothing after this message can be believed
            known.broken = fault
        else:
            self.tally.take(before, known.launch, message)

    def _show(self, pod: str) -> None:
        """Make the row anew; forget the fold of what cannot change any more."""
        known, old = self._known[pod], self.rows.get(pod)
        if known.launch is None and old is not None:
            row = replace(old, messages=known.messages, changed_ns=known.changed_ns)
        else:
            row = _row(known)
        if known.broken is not None or row.state is State.GONE:
            known.launch = None
        self.rows[pod] = row
        if old is not None:
            self._count(old, -1)
        self._count(row, 1)

    def newest_first(self) -> Iterator[Row]:
        """Every row, the launch that began last first."""
        return reversed(self.rows.values())

    def related(self, row: Row, most: int = 8) -> tuple[Row, ...]:
        """Other launches of the same pod by name, or of the same image: what was this like before?"""
        others = [other for other in self.newest_first() if other.pod != row.pod]
        named = [other for other in others if _same_name(other, row)][:most]
        alike = [other for other in others if _same_image(other, row) and not _same_name(other, row)]
        return (*named, *alike[: most - len(named)])

    def _count(self, row: Row, by: int) -> None:
        for counter, key in (
            (self.groups, row.group),
            (self.states, row.state),
            (self.nodes, row.node),
            (self.namespaces, row.namespace),
            (self.codes, row.code),
        ):
            if key:
                counter[key] += by
                if not counter[key]:
                    del counter[key]


def _same_name(one: Row, other: Row) -> bool:
    return bool(one.name) and (one.namespace, one.name) == (other.namespace, other.name)


def _same_image(one: Row, other: Row) -> bool:
    return not set(one.images).isdisjoint(other.images)


def _row(known: _Known) -> Row:
    launch = known.launch
    assert launch is not None  # noqa: S101 - `_show` asks for no other
    asked, failure = launch.requested, launch.failure
    images = tuple(dict.fromkeys(container.requested.image for container in launch.containers.values()))
    names = [container.requested.name for container in launch.containers.values()]
    namespace, name, node = (asked.namespace, asked.name, asked.node) if asked else ("", "", "")
    row = Row(
        pod=launch.pod,
        title=title(launch),
        namespace=namespace,
        name=name,
        node=node,
        state=launch.state,
        group=group(launch),
        steps=_steps(launch),
        code=str(failure.diagnosis.code) if failure else "",
        message=failure.diagnosis.message if failure else "",
        transition=failure.transition if failure else "",
        images=images,
        began_ns=known.began_ns,
        changed_ns=known.changed_ns,
        took_ns=_took_ns(launch),
        messages=known.messages,
        searched="",
    )
    if known.broken is not None:
        told = known.broken.diagnosis
        broken = {"code": str(told.code), "message": told.message, "transition": ""}
        row = replace(row, state=State.FAILED, group=Group.FAILED, **broken)  # type: ignore[arg-type]  # texts all
    words = (row.pod, namespace, name, node, row.code, row.transition, *images, *names)
    return replace(row, searched=" ".join(words).lower())


def _steps(launch: Launch) -> int:
    state = launch.failure.state if launch.failure else reached(launch)
    return LAUNCH_STATES.index(state) + 1 if state in LAUNCH_STATES else 0


def _took_ns(launch: Launch) -> int:
    """The time that the steps up to the last boot took, waiting between calls left out; of several containers, all."""
    containers = launch.containers.values()
    if not containers or not all(c.booted for c in containers):
        return 0
    parts = [launch.progress.passed, *(c.progress.passed for c in containers)]
    return sum(passed.nanoseconds for part in parts for passed in part)


def group(launch: Launch) -> Group:
    """Which of the four a launch is counted in. One that failed stays failed, also when its traces are removed."""
    if launch.failure is not None:
        return Group.FAILED
    if launch.state is State.APP_BOOTED:
        return Group.RUNNING
    if launch.state in (State.EXITED, State.STOPPING, State.GONE):
        return Group.ENDED
    return Group.LAUNCHING
