"""Whether a failed launch can go on, and with which transition. The fold holds orders to it; so do those who give them.

Zone: any. May import: `orchestrator.{faults,launch,lifecycle}`. Pure.

A step can be issued again only where what it needs is still there, and nothing is ever used twice that must be fresh:

1. What failed must be held: its pod asked for a hold, and it is not over. What was torn down is gone.
2. After a forged fact nothing goes on: somebody other than the enclave speaks for it.
3. A container begins anew with `decrypt_image`, whichever of its steps failed: from there on its keys, its store, its
   app enclave and the session of the two enclaves are each for one attempt only. It needs its pod's agent.
4. A pod goes on with the transition that failed; with `launch_agent` where the agent is lost or somebody asks for that,
   and then with every container that had not failed before, from its beginning. The new agent has a new event key,
   which its own quote binds.

Attempts go on counting: what an earlier attempt left behind, or still says, is never taken for the new one's.
"""

from __future__ import annotations

from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch, Progress, held
from orchestrator.lifecycle import BY_NAME, State, Transition


def resumable(launch: Launch, container: str = "", start: str = "") -> Transition:
    """The transition with which it goes on: `start`, if given. Raises Permanent(REPLAY_RESUME), which says why not."""
    _check_held(launch, container)
    possible = ("decrypt_image",) if container else _of_pod(launch)
    if start and start not in possible:
        raise _not_resumable(
            f"it cannot go on with {start}", " or ".join(possible), "what comes before it is not there, or is spent"
        )
    return BY_NAME[start or possible[0]]


def _check_held(launch: Launch, container: str) -> None:
    known = launch.containers.get(container)
    if container and known is None:
        raise _not_resumable(f"there is no container {container[:12]}", "a container of this pod", "none of that id")
    progress = known.progress if known else launch.progress
    if progress.failure is None:
        raise _not_resumable("nothing of it has failed", "a failed launch", str(progress.state))
    code = progress.failure.diagnosis.code
    if code is Code.FACT_FORGED:
        raise _not_resumable("somebody else has spoken for its enclave", "a history without forged facts", str(code))
    if progress.torn_down or progress.state is not State.FAILED:
        raise _not_resumable(
            "what it was made of is removed, or about to be", "what failed, still held", _end(progress)
        )
    if container and (not launch.progress.live or launch.agent_lost or launch.attested is None):
        raise _not_resumable("its pod's agent is not there", "a live pod with its agent", str(launch.progress.state))
    if not held(launch, progress):
        raise _not_resumable("its pod did not ask to be held", "hold_seconds above 0", "0: it is torn down at once")
    if not container and progress.exit is not None:
        raise _not_resumable("its pause container has ended", "a sandbox", f"exit status {progress.exit.code}")


def _of_pod(launch: Launch) -> tuple[str, ...]:
    """With what a failed pod may go on, the usual first."""
    if launch.sandbox is None:
        return ("create_sandbox",)
    if launch.agent is None or launch.agent_lost:
        return ("launch_agent",)
    return ("attest", "launch_agent")


def _end(progress: Progress) -> str:
    return progress.stop_reason or str(progress.state)


def _not_resumable(why: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.REPLAY_RESUME,
        f"this launch cannot be resumed: {why}",
        expected=expected,
        got=got,
        advice="let the pod be created again; docs/operations/replay.md says how to have launches held",
    )
