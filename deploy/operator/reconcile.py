"""The decision: what is there and what is wanted, to what is done next. Pure; asked after each change and now and then.

Rules, in this order:

1. No node is touched, and nothing is made, before the finalizer is seen on the resource.
2. A node that another EnclaveRuntime has claimed, or whose record cannot be read, is left alone and told.
3. A node that leaves (the resource goes, or selects it no longer) is demoted first, so that no pod is sent there; then
   waits until no pod runs through the runtime; then is uninstalled; then loses its labels.
4. Nodes under way go on (`node_step`); others begin as the rollout allows (`rollout`).
5. The RuntimeClass is made once a node serves, and removed after the last node is clean.
6. The finalizer goes when no node and no RuntimeClass of ours is left.
7. Running Jobs that no record knows are deleted: their node has gone.
"""

from __future__ import annotations

from deploy.operator.actions import (
    Action,
    AddFinalizer,
    DeleteJob,
    DeletePod,
    DeleteRuntimeClass,
    PatchNode,
    PutRuntimeClass,
    RemoveFinalizer,
    SetStatus,
)
from deploy.operator.desired import Desired
from deploy.operator.names import RUNTIME_LABEL, verification_class
from deploy.operator.node_step import Situation, advance, begin, remove
from deploy.operator.observed import Node, Observed, Outcome
from deploy.operator.record import IN_UPGRADE, Step
from deploy.operator.rollout import Rollout
from deploy.operator.runtime_class import fingerprint
from deploy.operator.status import status_of


def reconcile(observed: Observed, desired: Desired) -> tuple[Action, ...]:
    """What is done next, in this order. Nothing, if all is as it is wanted, or has to be waited for."""
    if not observed.finalizer:
        return () if desired.deleting else (AddFinalizer(),)
    claimed = [node for node in observed.nodes if node.record and node.record.runtime == desired.name]
    wanted = [] if desired.deleting else [node for node in observed.nodes if _wants(desired, node)]
    rollout = Rollout(desired, claimed, wanted)
    done = (
        *_runtime_classes(observed, desired, rollout),
        *_leave(observed, rollout),
        *_advance(observed, desired, rollout),
        *(begin(node, node.record, desired, observed.now) for node in rollout.starters()),
        *_sweep(observed, claimed),
    )
    if desired.deleting and not claimed and not _own_classes(observed, desired):
        return (*_sweep(observed, ()), RemoveFinalizer())
    status = status_of(observed, desired, rollout)
    return (*done, SetStatus(status)) if status != observed.status else done


def _wants(desired: Desired, node: Node) -> bool:
    """Selected, and free for us."""
    ours = node.record is None or node.record.runtime == desired.name
    return ours and node.unreadable is None and desired.selector.selects(node.labels)


def _leaving(rollout: Rollout) -> list[Node]:
    stay = {node.name for node in rollout.wanted}
    return [node for node in rollout.claimed if node.name not in stay]


def _leave(observed: Observed, rollout: Rollout) -> list[Action]:
    """Rule 3, up to the beginning of the removal; `node_step` carries it out."""
    actions: list[Action] = []
    removable: list[Node] = []
    for node in _leaving(rollout):
        record = node.record
        if record is None or record.step is Step.REMOVING:
            continue
        job = observed.job(node.name, record.serial)
        if record.clean:
            actions.append(PatchNode(node.name, node.version, None, serves=False))
        elif node.labels.get(RUNTIME_LABEL) == "true":
            actions.append(PatchNode(node.name, node.version, record, serves=False))
        elif record.step in {Step.INSTALLING, Step.UNDOING} and job is not None:
            # It is let finish: what it did is then known. A step that ended is written down by `advance`.
            continue
        elif node.guests == ():
            removable.append(node)
    return [
        *actions,
        *(remove(node, node.record, observed.now) for node in rollout.removers(removable) if node.record),
    ]


def _advance(observed: Observed, desired: Desired, rollout: Rollout) -> list[Action]:
    """Rule 4, for what is under way; of those that leave, what has a Job to hear of."""
    stay = {node.name for node in rollout.wanted}
    actions: list[Action] = []
    for node in rollout.claimed:
        record = node.record
        if record is None:
            continue
        stays = node.name in stay
        heard = record.step in {Step.INSTALLING, Step.UNDOING} and observed.job(node.name, record.serial) is not None
        if stays or heard or record.step is Step.REMOVING:
            actions += advance(Situation(node, record, desired, observed, stays=stays))
    begun = {node.name for node in rollout.starters()}
    return [action for action in actions if not (isinstance(action, PatchNode) and action.node in begun)]


def _own_classes(observed: Observed, desired: Desired) -> list[str]:
    return [found.name for found in observed.runtime_classes if found.owner == desired.name]


def _runtime_classes(observed: Observed, desired: Desired, rollout: Rollout) -> list[Action]:
    """Rule 5. A class of our name that a stranger made is left alone."""
    there = {found.name: found for found in observed.runtime_classes}
    needed: set[str] = set()
    holding = [node for node in rollout.claimed if node.record and not node.record.clean]
    if holding:
        serving = any(node.labels.get(RUNTIME_LABEL) == "true" for node in rollout.claimed)
        if serving or desired.runtime_class in there:
            needed.add(desired.runtime_class)
        if desired.verification and not desired.deleting:
            needed.add(verification_class(desired.runtime_class))
    actions: list[Action] = [
        PutRuntimeClass(name)
        for name in sorted(needed)
        if desired.payload
        and (name not in there or _drifted(there[name].owner, there[name].fingerprint, name, desired))
    ]
    if not rollout.claimed or not holding:
        actions += [DeleteRuntimeClass(name) for name in _own_classes(observed, desired)]
    else:
        actions += [DeleteRuntimeClass(name) for name in _own_classes(observed, desired) if name not in needed]
    return actions


def _drifted(owner: str, found: str, name: str, desired: Desired) -> bool:
    return owner == desired.name and found != fingerprint(name, desired)


def _sweep(observed: Observed, claimed: list[Node] | tuple[()]) -> list[Action]:
    """Rule 7, and verification pods that are no longer asked."""
    known = {(node.name, node.record.serial): node.record.step for node in claimed if node.record}
    working = {key for key, step in known.items() if step in IN_UPGRADE or step is Step.REMOVING}
    verifying = {key for key, step in known.items() if step is Step.VERIFYING}
    strays = [j for j in observed.jobs if j.outcome is Outcome.RUNNING and (j.node, j.serial) not in working]
    return [
        *(DeleteJob(job.name) for job in strays),
        *(DeletePod(pod.name) for pod in observed.pods if (pod.node, pod.serial) not in verifying),
    ]
