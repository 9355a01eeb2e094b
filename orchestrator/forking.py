"""A fork: a new launch that is asked for what another one was asked for, up to one of its facts.

Zone: host. May import: `orchestrator.{bus,events,faults,fold,launch,lifecycle}`, the standard library.

What is inherited is what was asked for (the pod and its containers), never what was done: every step is executed anew,
in a sandbox and by an agent of the fork's own, with its own nonces, tokens, keys and reports. Each container is started
when it is ready, whether or not the other's was yet: containerd, whose word that is, knows nothing of the fork. The
orchestrator states the requests, once, when it is given the order; its order is followed only if

1. the other launch's history holds, and its fact of that index has the digest that the order names: what the operator
   looked at is what is forked;
2. its `PodRequested` names the order's signer as an operator;
3. it is still on its node: a fork borrows the directories that containerd made for it.

Otherwise the fork is stopped, with the reason, before anything is made for it; it is gone as soon as the orchestrator
has said so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from orchestrator import events
from orchestrator.bus import Histories
from orchestrator.events import MAX_HOLD_SECONDS, ContainerRequested, Fact, Foreign, ForkedFrom, PodRequested, Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.fold import fold
from orchestrator.launch import Launch, Progress
from orchestrator.lifecycle import State, Zone

SUFFIX: Final = ".fork"
"""Ends a fork's name, so that who asks for the pod by its name does not get the fork."""

LONGEST: Final = 512
"""Characters of an override's value."""

OVERRIDES: Final = "image=REFERENCE, image.CONTAINER=REFERENCE, hold=SECONDS, init-data=SHA256"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the fork is asked for: the pod, and its containers by their ids."""

    pod: PodRequested
    containers: tuple[tuple[str, ContainerRequested], ...]


def plan(fork: str, order: ForkedFrom, history: Sequence[Recorded | Foreign]) -> Plan:
    """What pod `fork` is asked for. `history` is the other launch's, as of now.

    Raises Permanent: REPLAY_FORK where the order cannot be followed, NOT_ALLOWED for a signer who may not give it,
    INPUT for an override that is none, BUS_HISTORY.
    """
    now = fold(order.pod, history)
    facts = [message for message in history if isinstance(message, Recorded)]
    last = facts[order.index - 1] if 0 < order.index <= len(facts) else None
    if last is None or last.digest != order.digest:
        raise _not_forkable(
            "its history is not the one that was looked at",
            f"fact {order.index} with digest {order.digest.hex()[:16]}",
            last.digest.hex()[:16] if last else f"{len(facts)} facts",
        )
    then = fold(order.pod, [message for message in history if message.sequence <= last.sequence])
    if then.requested is None:
        raise _not_forkable("nothing was asked for yet", "a fact after pod-requested", f"fact {order.index}")
    if order.operator not in then.requested.operators:
        raise Permanent(
            Code.NOT_ALLOWED,
            "this launch does not name the signer as an operator",
            expected=f"one of {len(then.requested.operators)} operators' keys",
            got=order.operator.hex(),
            advice="the node's configuration says who may order its launches: [orders] of node.toml",
        )
    _check_there("the pod", now.progress)
    return _asked(fork, order, then, now)


def _asked(fork: str, order: ForkedFrom, then: Launch, now: Launch) -> Plan:
    overrides = _parse(order.overrides)
    if then.requested is None:
        raise ValueError("checked by the caller")
    pod = replace(
        then.requested,
        name=then.requested.name.removesuffix(SUFFIX) + SUFFIX,
        hold_seconds=int(overrides.pop("hold", then.requested.hold_seconds)),
        init_data_sha256=overrides.pop("init-data", then.requested.init_data_sha256),
    )
    everywhere, containers = overrides.pop("image", ""), []
    for container in then.containers.values():
        asked = container.requested
        image = overrides.pop(f"image.{asked.name}", everywhere or asked.image)
        if _there(now.containers[container.id].progress):
            # Its streams are containerd's for the other one: what a fork says goes nowhere.
            asked = replace(asked, image=image, stdin="", stdout="", stderr="", terminal=False)
            id_ = hashlib.sha256(f"{fork}/{container.id}".encode()).hexdigest()
            containers.append((id_, asked))
    if overrides:
        raise Permanent(
            Code.INPUT, f"there is no {min(overrides)} to override", expected=OVERRIDES, got=min(overrides)[:200]
        )
    return Plan(pod, tuple(containers))


def _parse(overrides: Sequence[str]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or not 0 < len(value) <= LONGEST or name in parsed or (name == "hold" and not _seconds(value)):
            raise Permanent(Code.INPUT, "this overrides nothing", expected=OVERRIDES, got=override[:200])
        parsed[name] = value
    return parsed


def _seconds(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= MAX_HOLD_SECONDS


def _there(progress: Progress) -> bool:
    return not progress.torn_down and progress.state not in (State.STOPPING, State.GONE)


def _check_there(what: str, progress: Progress) -> None:
    if not _there(progress):
        raise _not_forkable(
            f"{what} is no longer on its node",
            "a launch that runs, or failed and is held",
            progress.stop_reason or str(progress.state),
        )


def _not_forkable(why: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.REPLAY_FORK,
        f"this launch cannot be forked: {why}",
        expected=expected,
        got=got,
        advice="`enclave-cc export --at N` keeps its history, which replays anywhere",
    )


async def inherit(histories: Histories, pod: str, actor: str) -> Launch:
    """State what fork `pod` is asked for, or stop it; whatever of that was stated before is not stated again.

    Raises what `Histories.append` raises.
    """
    launch = await histories.launch(pod)
    if launch.forked is None or not launch.progress.live:
        return launch
    try:
        asked = plan(pod, launch.forked, await histories.read(launch.forked.pod))
    except Permanent as fault:
        reason = f"refused: {fault}; expected {fault.diagnosis.expected}, got {fault.diagnosis.got}"
        stop = Fact(pod, events.StopRequested(reason), Zone.HOST, actor)
        await histories.append(stop, allowed=lambda now: now.requested is None and now.progress.live)
        return await histories.launch(pod)
    request = Fact(pod, asked.pod, Zone.HOST, actor)
    await histories.append(request, allowed=lambda now: now.requested is None and now.progress.live)
    for id_, container in asked.containers:
        await _ask_for(histories, Fact(pod, container, Zone.HOST, actor, container=id_))
    return await histories.launch(pod)


async def _ask_for(histories: Histories, fact: Fact) -> None:
    id_ = fact.container
    await histories.append(fact, allowed=lambda now: now.progress.live and id_ not in now.containers)
    started = replace(fact, body=events.StartRequested())
    await histories.append(started, allowed=lambda now: _not_started(now, id_))


def _not_started(launch: Launch, id_: str) -> bool:
    container = launch.containers.get(id_)
    return container is not None and container.progress.live and not container.start_requested_ns
