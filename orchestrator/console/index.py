"""A row for every launch, folded from the stream and kept up to date.

Zone: host. May import: `orchestrator.{events,faults,fold,launch,lifecycle,story}`, `orchestrator.console.tally`.
No I/O: it is given batches by `serve`.

It keeps the fold of each launch that may still change, and of every launch one small row: ten thousand take some
20 MB. A page reads the whole history of the one launch it is about; lists are made from rows alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
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
    simulated: bool
    searched: str


class Index:
    """All rows, the newest launch last. `version` grows with every batch that brought something."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.tally = Tally()
        self.version = 0
        self.messages = 0
        self.sequence = 0
        self.caught_up = False
        self.groups: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.nodes: Counter[str] = Counter()
        self.namespaces: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self._launches: dict[str, Launch] = {}
        self._over: set[str] = set()

    def take(self, pod: str, message: Recorded | Foreign) -> None:
        """One more message of `pod`, in the order of the stream. One that was taken before changes nothing."""
        if message.sequence <= self.sequence:
            return
        self.sequence = message.sequence
        self.messages += 1
        self.version += 1
        old = self.rows.get(pod)
        if pod in self._over:
            return
        before = self._launches.get(pod) or new(pod)
        try:
            after = apply(before, message)
        except Permanent as fault:  # the chain is broken: nothing after this message can be believed
            row, over = _broken(old or _row(before, None, message), fault), True
        else:
            row, over = _row(after, old, message), after.progress.state is State.GONE
            self.tally.take(before, after, message)
            self._launches[pod] = after
        if over:
            self._over.add(pod)
            self._launches.pop(pod, None)
        self.rows[pod] = row
        if old is not None:
            self._count(old, -1)
        self._count(row, 1)

    def newest_first(self) -> Iterator[Row]:
        """Every row, the launch that began last first."""
        return reversed(self.rows.values())

    def running(self) -> Iterator[Launch]:
        """The launches that may still change."""
        return iter(self._launches.values())

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


def _row(launch: Launch, old: Row | None, message: Recorded | Foreign) -> Row:
    asked, failure = launch.requested, launch.failure
    at_ns = message.fact.at_ns if isinstance(message, Recorded) else 0
    images = tuple(dict.fromkeys(container.requested.image for container in launch.containers.values()))
    names = [container.requested.name for container in launch.containers.values()]
    code = str(failure.diagnosis.code) if failure else ""
    namespace, name, node = (asked.namespace, asked.name, asked.node) if asked else ("", "", "")
    began_ns = old.began_ns if old and old.began_ns else at_ns
    words = (launch.pod, namespace, name, node, code, failure.transition if failure else "", *images, *names)
    return Row(
        pod=launch.pod,
        title=title(launch),
        namespace=namespace,
        name=name,
        node=node,
        state=launch.state,
        group=group(launch),
        steps=_steps(launch),
        code=code,
        message=failure.diagnosis.message if failure else "",
        transition=failure.transition if failure else "",
        images=images,
        began_ns=began_ns,
        changed_ns=max(at_ns, old.changed_ns if old else 0),
        took_ns=_took_ns(launch),
        messages=(old.messages if old else 0) + 1,
        simulated=launch.attested.simulated if launch.attested else False,
        searched=" ".join(words).lower(),
    )


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


def _broken(row: Row, fault: Permanent) -> Row:
    return replace(
        row,
        state=State.FAILED,
        group=Group.FAILED,
        code=str(fault.code),
        message=fault.diagnosis.message,
        transition="",
        messages=row.messages + 1,
        searched=f"{row.searched} {fault.code.lower()}",
    )
