"""Which launch is meant, and all of them.

Zone: host. May import: `orchestrator.{bus,events,faults,fold,launch}`, the standard library.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from orchestrator.bus import Histories
from orchestrator.events import Foreign, PodRequested, Recorded
from orchestrator.faults import Code, Diagnosis, Permanent
from orchestrator.fold import apply
from orchestrator.launch import Launch, new

SHOWN: Final = 5
"""How many of an ambiguous name's launches a fault names."""


@dataclass(frozen=True, slots=True)
class Known:
    """A launch as far as its history can be believed; `broken` says why not further. Times in nanoseconds."""

    launch: Launch
    began_ns: int = 0
    changed_ns: int = 0
    broken: Diagnosis | None = None


async def every_launch(histories: Histories) -> list[Known]:
    """All launches, the oldest first. Raises Temporary(BUS_AWAY)."""
    known: dict[str, Known] = {}
    async with aclosing(histories.scan()) as messages:
        async for pod, message in messages:
            known[pod] = _after(known.get(pod) or Known(new(pod)), message)
    return list(known.values())


def _after(known: Known, message: Recorded | Foreign) -> Known:
    if known.broken is not None:
        return known
    at_ns = message.fact.at_ns if isinstance(message, Recorded) else 0
    try:
        launch = apply(known.launch, message)
    except Permanent as fault:
        return Known(known.launch, known.began_ns, known.changed_ns, fault.diagnosis)
    return Known(launch, known.began_ns or at_ns, max(known.changed_ns, at_ns))


async def find(histories: Histories, asked: str) -> str:
    """The pod that `asked` means: `namespace/name` (the newest of that name), or the unique beginning of its id.

    Raises Permanent(NOT_FOUND), Permanent(INPUT) when several begin so, Temporary(BUS_AWAY).
    """
    if "/" in asked:
        return await _by_name(histories, asked)
    pods = await histories.pods()
    if asked in pods:
        return asked
    return _one(asked, sorted(pod for pod in pods if asked and pod.startswith(asked)))


async def _by_name(histories: Histories, asked: str) -> str:
    found = ""
    async with aclosing(histories.scan()) as messages:
        async for pod, message in messages:
            body = message.fact.body if isinstance(message, Recorded) else None
            if isinstance(body, PodRequested) and f"{body.namespace}/{body.name}" == asked:
                found = pod
    return _one(asked, [found] if found else [])


def _one(asked: str, pods: list[str]) -> str:
    if len(pods) == 1:
        return pods[0]
    if not pods:
        raise Permanent(
            Code.NOT_FOUND,
            f"there is no launch {asked!r}",
            expected="the beginning of a pod's id, or namespace/name",
            got="nothing of that name",
            advice="`enclave-cc launches` lists them",
        )
    raise Permanent(
        Code.INPUT,
        f"{asked!r} may be any of {len(pods)} launches",
        expected="as much of a pod's id as makes it one",
        got=_some(pod[:20] for pod in pods[:SHOWN]),
        advice="type more of it",
    )


def _some(names: Iterable[str]) -> str:
    return ", ".join(names)
