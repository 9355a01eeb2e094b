"""Doing a plan: each step between two lines of the journal, and the way back when one fails.

Zone: host. May import: `deploy.node.{journal,plan,steps}`, `orchestrator.faults`.
"""

from __future__ import annotations

from deploy.node.journal import Journal, Unfinished
from deploy.node.plan import Plan
from deploy.node.steps import Node
from orchestrator.faults import Fault

DONE = "done"
UNDONE = "undone"


def start(node: Node, journal: Journal, plan: Plan) -> None:
    """Do it from the beginning. Raises what a step raised, when everything up to there is undone again."""
    journal.begin(plan)
    forward(node, journal, Unfinished(plan))


def forward(node: Node, journal: Journal, run: Unfinished) -> None:
    """Go on where a run was killed. Raises as `start`."""
    plan = run.plan
    for number, step in enumerate(plan.steps):
        if number in run.done:
            continue
        journal.step(number, step, "begun")
        run.begun.add(number)
        try:
            step.do(node)
        except Fault as fault:
            if number <= plan.commit:
                journal.undo(str(fault))
                run.undoing = True
                back(node, journal, run)
            raise
        journal.step(number, step, "done")
    journal.finish(DONE)


def back(node: Node, journal: Journal, run: Unfinished) -> None:
    """Undo what was begun. A step that cannot be undone hinders no other, and is tried again by the next run."""
    if not run.undoing:
        journal.undo(f"{run.plan.verb} was broken off, and something else is asked for")
        run.undoing = True
    faults: list[Fault] = []
    for number, undo in enumerate(run.plan.undo):
        if undo.of not in run.begun or number in run.undone:
            continue
        try:
            undo.step.do(node)
        except Fault as fault:
            faults.append(fault)
        else:
            journal.undone(number, undo.step)
    if faults:
        raise faults[0]
    journal.finish(UNDONE)


def settled(node: Node, journal: Journal, verb: str, digest: str) -> bool:
    """Bring a run that was killed to an end: forward, if the same is asked for or it cannot go back; else back.

    True if it was the same, and is done now.
    """
    run = journal.unfinished()
    if run is None:
        return False
    if run.undoing:
        back(node, journal, run)
        return False
    same = (run.plan.verb, run.plan.digest) == (verb, digest)
    if same or run.plan.commit in run.done or not run.plan.steps:
        forward(node, journal, run)
        return same
    back(node, journal, run)
    return False
