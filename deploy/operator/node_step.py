"""One node, one step on: from its record, its Job and its pod to what is done next. Pure.

A step that ends writes the next record before anything of that step is started; a Job exists only for a record that
was seen in the cluster. So whatever is started can be found again from what is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from deploy.operator.actions import Action, Evict, Operation, PatchNode, StartJob, StartVerification
from deploy.operator.desired import Desired
from deploy.operator.names import HANDLER, RUNTIME_LABEL, digest_of
from deploy.operator.observed import Node, Observed, Outcome, Work
from deploy.operator.record import Problem, Record, Step, labels_of

MAX_ATTEMPTS: Final = 3
"""Jobs for a payload that was never verified on the node; then what was done is undone and the rollout stops."""
FIRST_DELAY: Final = 10
LAST_DELAY: Final = 900
"""Seconds between attempts: 10, 20, 40, up to a quarter of an hour. What must succeed is tried for ever."""
SERVE_SECONDS: Final = 600
"""How long a node may take after its Job to be Ready and tell the handler; a verification pod's time comes on top."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A node with what is wanted of it. `stays` says that the resource selects it and is not being deleted."""

    node: Node
    record: Record
    desired: Desired
    observed: Observed
    stays: bool

    @property
    def now(self) -> int:
        """Seconds of the Unix epoch."""
        return self.observed.now

    @property
    def labelled(self) -> bool:
        """The node's label says that it serves."""
        return self.node.labels.get(RUNTIME_LABEL) == "true"

    @property
    def tells_handler(self) -> bool:
        """Its kubelet tells our handler, or tells none at all."""
        return self.node.handlers is None or HANDLER in self.node.handlers

    def write(self, record: Record | None, *, serves: bool = False) -> tuple[Action, ...]:
        """The node's record and labels, if they say something new."""
        wanted = labels_of(record, serves=serves).items()
        if record == self.record and all(self.node.labels.get(name) == value for name, value in wanted):
            return ()
        return (PatchNode(self.node.name, self.node.version, record, serves),)

    def next_serial(self) -> int:
        """Greater than any that was used for this node, also by a record that is gone."""
        return max(self.record.serial + 1, self.now)


def begin(node: Node, record: Record | None, desired: Desired, now: int) -> PatchNode:
    """Claim a node for its first install, or take it out of service for another payload."""
    if record is None:
        record = Record(runtime=desired.name, step=Step.INSTALLING, serial=now, target=desired.payload)
    else:
        record = replace(
            record,
            step=Step.INSTALLING,
            serial=max(record.serial + 1, now),
            target=desired.payload,
            attempt=1,
            not_before=0,
            deadline=0,
            problem=None,
        )
    return PatchNode(node.name, node.version, record, serves=False)


def remove(node: Node, record: Record, now: int) -> PatchNode:
    """Begin to uninstall a node that serves no more and on which nothing runs."""
    record = replace(
        record,
        step=Step.REMOVING,
        serial=max(record.serial + 1, now),
        attempt=1,
        not_before=0,
        deadline=0,
        problem=None,
    )
    return PatchNode(node.name, node.version, record, serves=False)


def advance(here: Situation) -> tuple[Action, ...]:
    """What is done next for a claimed node in the step that it is in; nothing where it has to wait."""
    match here.record.step:
        case Step.SETTLED:
            return _settled(here)
        case Step.INSTALLING:
            return _installing(here)
        case Step.VERIFYING:
            return _verifying(here)
        case Step.UNDOING:
            return _undoing(here)
        case Step.REMOVING:
            return _removing(here)


def _settled(here: Situation) -> tuple[Action, ...]:
    return here.write(here.record, serves=here.stays and bool(here.record.payload))


def _installing(here: Situation) -> tuple[Action, ...]:
    record = here.record
    if here.labelled:
        return here.write(record)
    job = here.observed.job(here.node.name, record.serial)
    if job is None:
        if not here.stays:
            return ()
        if here.desired.drain and record.payload and (staying := _evictions(here)) is not None:
            return staying
        return _start(here, Operation.UPGRADE if record.payload else Operation.INSTALL, record.target)
    if job.outcome is Outcome.RUNNING:
        return ()
    problem = _problem_of(job, record.target)
    if problem is None:
        return here.write(_verify(here, job.report.measurement if job.report else ""))
    if record.attempt < MAX_ATTEMPTS or record.target == record.payload:
        return here.write(_again(here, problem))
    return here.write(_undo(here, problem))


def _verifying(here: Situation) -> tuple[Action, ...]:
    record = here.record
    ready = here.node.ready and here.tells_handler
    if here.desired.verification is not None and ready:
        pod = here.observed.pod(here.node.name, record.serial)
        if pod is None:
            if not here.stays:
                return ()
            return (StartVerification(here.node.name, here.node.uid, record.serial),)
        if pod.outcome is Outcome.FAILED:
            return here.write(_refuse(here, pod.problem or Problem("E-RUNTIME-001", "the verification pod failed")))
        ready = pod.outcome is Outcome.SUCCEEDED
    if ready:
        kept = record.refused if record.target == record.payload else ""
        settled = replace(
            record,
            step=Step.SETTLED,
            payload=record.target,
            target="",
            attempt=1,
            deadline=0,
            refused=kept,
            problem=record.problem if kept else None,
        )
        return here.write(settled, serves=here.stays)
    if here.now <= record.deadline:
        return ()
    return here.write(_refuse(here, _does_not_serve(here)))


def _undoing(here: Situation) -> tuple[Action, ...]:
    record = here.record
    job = here.observed.job(here.node.name, record.serial)
    if job is None:
        if not here.stays:
            return ()
        # The payload of before, told to be installed: that can be repeated, unlike one step back.
        return _start(
            here, Operation.UPGRADE if record.payload else Operation.UNINSTALL, record.payload or record.target
        )
    if job.outcome is Outcome.RUNNING:
        return ()
    if failed := _problem_of(job, record.payload):
        return here.write(_again(here, failed))
    if record.payload:
        back = replace(record, target=record.payload)
        return here.write(_verify(replace_record(here, back), job.report.measurement if job.report else ""))
    return here.write(replace(record, step=Step.SETTLED, target="", attempt=1, not_before=0, measurement=""))


def _removing(here: Situation) -> tuple[Action, ...]:
    record = here.record
    if here.labelled:
        return here.write(record)
    job = here.observed.job(here.node.name, record.serial)
    if job is None:
        if here.node.guests is None or here.node.guests:
            return ()
        return _start(here, Operation.UNINSTALL, record.payload or here.desired.payload or record.target)
    if job.outcome is Outcome.RUNNING:
        return ()
    if failed := _problem_of(job, ""):
        return here.write(_again(here, failed))
    return (PatchNode(here.node.name, here.node.version, None, serves=False),)


def replace_record(here: Situation, record: Record) -> Situation:
    """The same node, had it this record."""
    return replace(here, record=record)


def _start(here: Situation, operation: Operation, payload: str) -> tuple[Action, ...]:
    """A Job, once its time has come and the node can run it."""
    if here.now < here.record.not_before or not here.node.ready:
        return ()
    node = here.node
    return (StartJob(node.name, node.uid, node.machine_id, here.record.serial, operation, payload),)


def _evictions(here: Situation) -> tuple[Action, ...] | None:
    """Ask who is still there to leave; None once nobody is."""
    guests = here.node.guests
    if guests is None:
        return ()
    return tuple(Evict(guest.namespace, guest.name) for guest in guests if not guest.leaving) if guests else None


def _verify(here: Situation, measurement: str) -> Record:
    seconds = SERVE_SECONDS + (here.desired.verification.seconds if here.desired.verification else 0)
    return replace(
        here.record,
        step=Step.VERIFYING,
        serial=here.next_serial(),
        attempt=1,
        not_before=0,
        deadline=here.now + seconds,
        measurement=measurement,
    )


def _again(here: Situation, problem: Problem) -> Record:
    """The same step once more, after a while."""
    attempt = here.record.attempt + 1
    delay = min(FIRST_DELAY << min(attempt - 2, 10), LAST_DELAY)
    return replace(
        here.record,
        serial=here.next_serial(),
        attempt=attempt,
        not_before=here.now + delay,
        # While something is undone, what it is undone for is what people need to read.
        problem=here.record.problem if here.record.step is Step.UNDOING and here.record.problem else problem,
    )


def _undo(here: Situation, problem: Problem) -> Record:
    """Back to what was there. The refusal stops the rollout until a person has looked."""
    return replace(
        here.record,
        step=Step.UNDOING,
        serial=here.next_serial(),
        attempt=1,
        not_before=0,
        deadline=0,
        refused=f"{digest_of(here.record.target)}#{here.desired.attempt}",
        measurement="",
        problem=problem,
    )


def _refuse(here: Situation, problem: Problem) -> Record:
    """What was installed does not serve: undo it; where it is already what was there before, install it again."""
    if here.record.target != here.record.payload:
        return _undo(here, problem)
    again = replace(here.record, step=Step.INSTALLING)
    return _again(replace_record(here, again), problem)


def _problem_of(job: Work, payload: str) -> Problem | None:
    """Why a Job that ended did not do what it was for; `payload` is what it should have left on the node."""
    report = job.report
    if job.outcome is Outcome.FAILED or report is None or report.phase == "failed":
        said = report.problem if report else None
        return said or job.problem or Problem("E-RUNTIME-001", "the node's Job ended without a report")
    wanted = digest_of(payload)
    if (report.phase == "uninstalled") is not (not wanted) or (wanted and report.digest != wanted):
        return Problem(
            "E-RUNTIME-001",
            "the node's Job did something else than it was told",
            expected=wanted or "uninstalled",
            got=f"{report.phase} {report.digest}".strip(),
        )
    return None


def _does_not_serve(here: Situation) -> Problem:
    if not here.node.ready:
        return Problem("E-RUNTIME-001", "the node is not Ready after its payload was installed", expected="Ready")
    if not here.tells_handler:
        told = ", ".join(sorted(here.node.handlers or ())) or "none"
        return Problem("E-RUNTIME-001", "containerd does not serve the handler", expected=HANDLER, got=told)
    return Problem("E-RUNTIME-001", "the verification pod did not end in its time")
