"""One launch with its history, as far as the history can be believed.

Zone: host. May import: `orchestrator.{events,faults,fold,launch}`, `orchestrator.console`, `starlette`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from orchestrator.console.site import Site
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code, Diagnosis, Permanent, Temporary
from orchestrator.fold import apply
from orchestrator.launch import Launch, new


@dataclass(frozen=True, slots=True)
class Believed:
    """The fold of `history`; `broken` says why the stream's history goes on but cannot be believed any further."""

    launch: Launch
    history: tuple[Recorded | Foreign, ...]
    broken: Diagnosis | None


def believe(pod: str, history: Iterable[Recorded | Foreign]) -> Believed:
    """Fold up to the end, or up to the message at which the chain breaks."""
    launch = new(pod)
    kept: list[Recorded | Foreign] = []
    for message in history:
        try:
            launch = apply(launch, message)
        except Permanent as fault:
            return Believed(launch, tuple(kept), fault.diagnosis)
        kept.append(message)
    return Believed(launch, tuple(kept), None)


async def read(site: Site, pod: str) -> list[Recorded | Foreign]:
    """A pod's history. Raises Temporary(BUS_AWAY), HTTPException(404) for a pod that has none or cannot exist."""
    if not site.connected():  # at once, and not after a wait that can only end so
        raise Temporary(
            Code.BUS_AWAY,
            f"the history of {pod[:20]} cannot be read now",
            expected="a connection to the bus",
            got="none; it is being tried again",
            advice="see whether nats-server runs (`enclave-cc status`)",
        )
    try:
        history = await site.histories.read(pod)
    except Permanent as fault:
        if fault.code is not Code.INPUT:
            raise
        history = []
    if not history:
        raise HTTPException(404, "No launch has this id.")
    return history
