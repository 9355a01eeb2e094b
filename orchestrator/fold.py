"""The fold: a pod's history -> what its launch is now, and what it waits for.

Zone: any. May import: `orchestrator.{events,faults,forgery,launch,lifecycle,resumption}`. Pure: no I/O, no clock.

Rules, in the order in which `apply` holds them:

0. A message that is no fact is passed over and listed; it has no place in the chain.
1. The chain must hold: index one higher, `previous` the digest of the message before. Otherwise the history itself is
   broken and folding stops with `BUS_HISTORY`; nothing after such a message can be believed.
2. The fact must be about this pod.
3. A fact of the enclave zone must carry a good signature under the event key that the launch's quote binds. `Attested`
   brings that key and must be signed by it and bound by its own quote; a `StepFailed` before there is a key is taken
   unsigned (the host can stop a launch anyway). A forged fact fails the launch: `FACT_FORGED`.
4. A zone may only say what `lifecycle` gives it to say: the host cannot state an enclave's fact by dropping the
   signature, nor an enclave the host's. That too is `FACT_FORGED`.
5. A fact that answers a transition counts only if exactly that (container, transition, attempt) is awaited. Late,
   doubled or early ones change nothing and are listed in `ignored`.
6. An operator's order counts only with a good signature by a key that the launch's `PodRequested` names, and only where
   it can be followed (`resumption`). One that does not count changes nothing: else whoever may append could end a
   launch by a bad order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from orchestrator import events
from orchestrator.events import Fact, Foreign, Recorded
from orchestrator.faults import Code, Diagnosis, Permanent
from orchestrator.forgery import why_forged, why_not_ordered
from orchestrator.launch import Awaited, Container, Failure, Ignored, Launch, Passed, Progress, awaited, new
from orchestrator.lifecycle import (
    CONTAINER_TABLE,
    HOLD,
    HOST_HALF,
    POD_TABLE,
    TEARDOWN,
    State,
    Subject,
    next_transition,
    rank,
)
from orchestrator.resumption import resumable

BACKOFF_NS: Final = 500_000_000
"""Wait before the second attempt; doubles with each further one."""


def fold(pod: str, history: Iterable[Recorded | Foreign]) -> Launch:
    """The launch after a whole history."""
    launch = new(pod)
    for recorded in history:
        launch = apply(launch, recorded)
    return launch


def apply(launch: Launch, recorded: Recorded | Foreign) -> Launch:
    """The launch after one more message; see the rules in the module's head. Raises Permanent(BUS_HISTORY)."""
    if isinstance(recorded, Foreign):  # rule 0
        entry = Ignored(0, "foreign", recorded.why)
        return replace(launch, sequence=recorded.sequence, ignored=(*launch.ignored, entry))
    _check_chain(launch, recorded)  # rules 1 and 2
    moved = replace(launch, index=recorded.index, sequence=recorded.sequence, head=recorded.digest)
    forged = why_forged(launch, recorded)  # rules 3 and 4
    if forged is not None:
        return _fail_forged(moved, recorded, forged)
    fact = recorded.fact
    handler = _HANDLERS.get(type(fact.body))
    if handler is None:
        return _ignore(moved, recorded, "a kind of fact that this version does not know")
    return handler(moved, recorded)


def _check_chain(launch: Launch, recorded: Recorded) -> None:
    if recorded.fact.pod != launch.pod:
        raise _broken(recorded, f"a fact about pod {launch.pod}", f"one about {recorded.fact.pod}")
    if recorded.index != launch.index + 1:
        raise _broken(recorded, f"index {launch.index + 1}", f"index {recorded.index}")
    if recorded.previous != launch.head:
        raise _broken(recorded, f"previous {launch.head.hex() or '(none)'}", f"previous {recorded.previous.hex()}")


def _broken(recorded: Recorded, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.BUS_HISTORY,
        f"the history's chain breaks at message {recorded.index} (stream sequence {recorded.sequence})",
        expected=expected,
        got=got,
        advice="the stream was edited, or a message is lost; compare it with an exported copy",
    )


def _fail_forged(launch: Launch, recorded: Recorded, why: str) -> Launch:
    diagnosis = Diagnosis(
        Code.FACT_FORGED,
        f"message {recorded.index} ({events.kind(recorded.fact.body)}, by {recorded.fact.actor}) is forged: {why}",
        expected="a fact signed by the event key that this launch's quote binds",
        got="a fact that the enclave did not state",
        advice="something on the host or the bus invented it; look for who may publish to this pod's subject",
    )
    launch = _ignore(launch, recorded, f"forged: {why}")
    if launch.progress.state in (State.STOPPING, State.GONE):
        return launch
    failure = Failure(launch.state, "", recorded.fact.attempt, diagnosis, recorded.index)
    return replace(launch, progress=_failed(launch.progress, failure, recorded.fact.at_ns))


# --- rule 5 and the facts ---------------------------------------------------------------------------------------------


def _ignore(launch: Launch, recorded: Recorded, why: str) -> Launch:
    entry = Ignored(recorded.index, events.kind(recorded.fact.body), why)
    return replace(launch, ignored=(*launch.ignored, entry))


def _step(launch: Launch, fact: Fact, name: str) -> Awaited | None:
    """The awaited step that this fact answers."""
    key = (fact.container, name, fact.attempt)
    return next((step for step in awaited(launch) if step.key == key), None)


def _advance(progress: Progress, table: Mapping[tuple[State, str], State], name: str, recorded: Recorded) -> Progress:
    target = table[progress.state, name]
    at = recorded.fact.at_ns
    tries = progress.tries(progress.attempt)
    passed = Passed(target, at, recorded.index, max(0, at - progress.since_ns), tries)
    return replace(
        progress, state=target, since_ns=at, attempt=progress.first, not_before_ns=0, passed=(*progress.passed, passed)
    )


def _reached(launch: Launch, progress: Progress) -> State:
    """The last of the seven states behind `progress`: a container that reached none stands on its pod's."""
    return progress.reached if progress.passed else launch.progress.reached


def _failed(progress: Progress, failure: Failure, at_ns: int) -> Progress:
    return replace(progress, state=State.FAILED, failure=progress.failure or failure, since_ns=at_ns, not_before_ns=0)


def _with(launch: Launch, container: Container) -> Launch:
    return replace(launch, containers={**launch.containers, container.id: container})


def _on_pod_requested(launch: Launch, recorded: Recorded) -> Launch:
    body = recorded.fact.body
    assert isinstance(body, events.PodRequested)  # noqa: S101 - the dispatch table pairs kind and handler
    if launch.requested is not None:
        return _ignore(launch, recorded, "the pod was requested before")
    # What came before the request stands: a forgery or a stop that was first must not be undone by it.
    return replace(launch, requested=body, progress=replace(launch.progress, since_ns=recorded.fact.at_ns))


def _on_pod_step(launch: Launch, recorded: Recorded) -> Launch:
    fact, body = recorded.fact, recorded.fact.body
    name, attribute = _POD_FACTS[type(body)]
    if _step(launch, fact, name) is None:
        return _ignore(launch, recorded, f"{name} attempt {fact.attempt} was not awaited")
    progress = _advance(launch.progress, POD_TABLE, name, recorded)
    return replace(launch, progress=progress, **{attribute: body})  # type: ignore[arg-type]  # paired in _POD_FACTS


def _on_container_requested(launch: Launch, recorded: Recorded) -> Launch:
    fact, body = recorded.fact, recorded.fact.body
    assert isinstance(body, events.ContainerRequested)  # noqa: S101 - as above
    if not fact.container or fact.container in launch.containers:
        return _ignore(launch, recorded, "the container was requested before")
    if launch.requested is None or not launch.progress.live:
        return _ignore(launch, recorded, f"the pod is {launch.progress.state}" if launch.requested else "no such pod")
    container = Container(fact.container, Progress(since_ns=fact.at_ns), body)
    if launch.agent_lost:
        failure = Failure(launch.progress.reached, "decrypt_image", 1, _AGENT_LOST, recorded.index)
        container = replace(container, progress=_failed(container.progress, failure, fact.at_ns))
    return _with(launch, container)


def _on_container_step(launch: Launch, recorded: Recorded) -> Launch:
    fact, body = recorded.fact, recorded.fact.body
    name, attribute = _CONTAINER_FACTS[type(body)]
    container = launch.containers.get(fact.container)
    if container is None or _step(launch, fact, name) is None:
        return _ignore(launch, recorded, f"{name} attempt {fact.attempt} was not awaited")
    since = max(container.progress.since_ns, launch.progress.since_ns)
    if name == "deliver_config":
        since = max(since, container.start_requested_ns)
    progress = _advance(replace(container.progress, since_ns=since), CONTAINER_TABLE, name, recorded)
    return _with(launch, replace(container, progress=progress, **{attribute: body}))  # type: ignore[arg-type]


def _on_start_requested(launch: Launch, recorded: Recorded) -> Launch:
    container = launch.containers.get(recorded.fact.container)
    if container is None or container.start_requested_ns or not container.progress.live:
        return _ignore(launch, recorded, "there is no such container to start")
    return _with(launch, replace(container, start_requested_ns=recorded.fact.at_ns))


def _on_app_started(launch: Launch, recorded: Recorded) -> Launch:
    fact, body = recorded.fact, recorded.fact.body
    assert isinstance(body, events.AppStarted)  # noqa: S101 - as above
    container = launch.containers.get(fact.container)
    if container is None or _step(launch, fact, HOST_HALF.name) is None:
        return _ignore(launch, recorded, f"start_app attempt {fact.attempt} was not awaited")
    return _with(launch, replace(container, started=body, started_attempt=fact.attempt))


def _on_step_failed(launch: Launch, recorded: Recorded) -> Launch:
    fact, body = recorded.fact, recorded.fact.body
    assert isinstance(body, events.StepFailed)  # noqa: S101 - as above
    step = _step(launch, fact, body.transition)
    if step is None or step.transition is HOLD:
        return _ignore(launch, recorded, f"{body.transition} attempt {fact.attempt} was not awaited")
    container = launch.containers.get(fact.container)
    progress = container.progress if container else launch.progress
    if step.transition is TEARDOWN:
        moved = _again(replace(progress, teardown_attempt=progress.teardown_attempt + 1), fact)
    elif body.temporary and progress.tries(progress.attempt) < step.transition.attempts:
        moved = _again(replace(progress, attempt=progress.attempt + 1), fact)
    else:
        known = body.code in Code.__members__.values()
        diagnosis = Diagnosis(
            Code(body.code) if known else Code.INTERNAL,
            body.message,
            body.expected,
            body.got,
            body.advice,
            body.temporary,
        )
        tries = progress.tries(fact.attempt)
        failure = Failure(_reached(launch, progress), body.transition, tries, diagnosis, recorded.index)
        moved = _failed(progress, failure, fact.at_ns)
    return _with(launch, replace(container, progress=moved)) if container else replace(launch, progress=moved)


def _again(progress: Progress, fact: Fact) -> Progress:
    tries = max(progress.tries(progress.attempt), progress.teardown_attempt) - 1
    return replace(progress, not_before_ns=fact.at_ns + (BACKOFF_NS << min(tries - 1, 6)))


def _on_exec(launch: Launch, recorded: Recorded) -> Launch:
    """A command beside the workload moves no state."""
    fact, body = recorded.fact, recorded.fact.body
    container = launch.containers.get(fact.container)
    if container is None:
        return _ignore(launch, recorded, "there is no such container to run a command in")
    if isinstance(body, events.ExecAdmitted):
        return _with(launch, replace(container, execs={**container.execs, body.rule: body.times}))
    assert isinstance(body, events.ExecRefused)  # noqa: S101 - as above
    return _with(launch, replace(container, execs_refused=body.times))


def _on_exited(launch: Launch, recorded: Recorded) -> Launch:
    fact, body = recorded.fact, recorded.fact.body
    assert isinstance(body, events.Exited)  # noqa: S101 - as above
    container = launch.containers.get(fact.container)
    progress = container.progress if container else launch.progress
    # What has failed is held from then on, whenever the process ends that it left.
    since_ns = progress.since_ns if progress.state is State.FAILED else fact.at_ns
    if (fact.container and container is None) or progress.exit is not None:
        return _ignore(launch, recorded, "this exit is known, or of no container")
    if container is not None and progress.first > 1 and container.started is None:
        return _ignore(launch, recorded, "what ended was made before the container was resumed")
    if container is None:
        state = State.STOPPING if progress.live else progress.state
        reason = progress.stop_reason or "the sandbox's pause container exited"
        moved = replace(progress, exit=body, state=state, since_ns=since_ns, stop_reason=reason, not_before_ns=0)
        return replace(launch, progress=moved)
    # An app enclave that ends because its pod is being removed has not failed: nobody waits for its boot any more.
    if launch.progress.live and progress.live and progress.state is not State.APP_BOOTED:
        name = row.name if (row := next_transition(Subject.CONTAINER, progress.state)) else "boot_app"
        diagnosis = _lost(body)
        tries = progress.tries(progress.attempt)
        failure = Failure(_reached(launch, progress), name, tries, diagnosis, recorded.index)
        return _with(launch, replace(container, progress=replace(_failed(progress, failure, fact.at_ns), exit=body)))
    state = State.EXITED if progress.live else progress.state
    return _with(launch, replace(container, progress=replace(progress, exit=body, state=state, since_ns=since_ns)))


def _lost(exited: events.Exited) -> Diagnosis:
    if exited.out_of_memory:
        return Diagnosis(
            Code.BOOT_LOST,
            "the app enclave ran out of memory before its workload had booted",
            expected="a memory limit with room for boot init and the workload",
            got=f"exit status {exited.code}: the kernel killed a process of it for the limit",
            advice="raise the container's memory limit: what serves its sealed root counts too",
        )
    return Diagnosis(
        Code.BOOT_LOST,
        f"the app enclave ended with status {exited.code} before its workload had booted",
        expected="boot init alive until the workload runs",
        got=f"exit status {exited.code}",
        advice="read the container's log; boot init writes its reason there",
    )


def _on_stop_requested(launch: Launch, recorded: Recorded) -> Launch:
    fact, body = recorded.fact, recorded.fact.body
    assert isinstance(body, events.StopRequested)  # noqa: S101 - as above
    container = launch.containers.get(fact.container)
    progress = container.progress if container else launch.progress
    if (fact.container and container is None) or progress.state in (State.STOPPING, State.GONE):
        return _ignore(launch, recorded, "nothing is there to be stopped")
    # What a failure already tore down is asked for once more: containerd may have made something since.
    moved = replace(
        progress,
        state=State.STOPPING,
        since_ns=fact.at_ns,
        not_before_ns=0,
        stop_reason=body.reason,
        torn_down=False,
        teardown_attempt=progress.teardown_attempt + (1 if progress.torn_down else 0),
    )
    return _with(launch, replace(container, progress=moved)) if container else replace(launch, progress=moved)


def _on_torn_down(launch: Launch, recorded: Recorded) -> Launch:
    fact = recorded.fact
    if _step(launch, fact, TEARDOWN.name) is None:
        return _ignore(launch, recorded, f"teardown attempt {fact.attempt} was not awaited")
    container = launch.containers.get(fact.container)
    if container is not None:
        return _with(launch, replace(container, progress=_gone(container.progress, fact.at_ns)))
    asked = launch.progress.state is State.STOPPING
    containers = {c.id: replace(c, progress=_gone(c.progress, fact.at_ns, asked)) for c in launch.containers.values()}
    return replace(launch, progress=_gone(launch.progress, fact.at_ns, asked), containers=containers)


def _gone(progress: Progress, at_ns: int, asked: bool = False) -> Progress:
    """Torn down. What failed stays visible as failed until somebody `asked` for its removal, or for its pod's."""
    state = State.FAILED if progress.state is State.FAILED and not asked else State.GONE
    return replace(progress, state=state, torn_down=True, since_ns=at_ns)


def _on_agent_lost(launch: Launch, recorded: Recorded) -> Launch:
    """Without its agent nothing new can start; what has booted runs on."""
    fact = recorded.fact
    if launch.agent_lost or not launch.progress.live:
        return _ignore(launch, recorded, "the agent is not needed any more")
    launch = replace(launch, agent_lost=True)
    running = [c for c in launch.containers.values() if c.progress.state is State.APP_BOOTED]
    if not running:
        row = next_transition(Subject.POD, launch.progress.state)
        tries = launch.progress.tries(launch.progress.attempt)
        failure = Failure(launch.state, row.name if row else "", tries, _AGENT_LOST, recorded.index)
        return replace(launch, progress=_failed(launch.progress, failure, fact.at_ns))
    for container in launch.containers.values():
        if container.progress.live and container.progress.state is not State.APP_BOOTED:
            progress = container.progress
            name = row.name if (row := next_transition(Subject.CONTAINER, progress.state)) else ""
            tries = progress.tries(progress.attempt)
            failure = Failure(_reached(launch, progress), name, tries, _AGENT_LOST, recorded.index)
            launch = _with(launch, replace(container, progress=_failed(progress, failure, fact.at_ns)))
    return launch


def _on_resume_requested(launch: Launch, recorded: Recorded) -> Launch:
    fact, body = recorded.fact, recorded.fact.body
    assert isinstance(body, events.ResumeRequested)  # noqa: S101 - as above
    operators = launch.requested.operators if launch.requested else ()
    if why := why_not_ordered(recorded, body.operator, operators):
        return _ignore(launch, recorded, why)
    try:
        row = resumable(launch, fact.container, body.start)
    except Permanent as fault:
        return _ignore(launch, recorded, fault.diagnosis.message)
    if fact.container:
        return _with(launch, _from_its_beginning(launch.containers[fact.container], fact.at_ns))
    progress = launch.progress
    kept = tuple(passed for passed in progress.passed if rank(passed.state) <= rank(row.source))
    moved = replace(_anew(progress, fact.at_ns), state=row.source, passed=kept)
    if row.name == "attest":
        return replace(launch, progress=moved)
    # A new agent knows nothing of what the old one had in its memory.
    return replace(
        launch,
        progress=moved,
        agent=None,
        agent_lost=False,
        attested=None,
        formerly=(*launch.formerly, launch.attested) if launch.attested else launch.formerly,
        containers={
            c.id: _from_its_beginning(c, fact.at_ns) if c.progress.live else c for c in launch.containers.values()
        },
    )


def _anew(progress: Progress, at_ns: int) -> Progress:
    """Nothing done and nothing failed, in attempts that were never used."""
    used = max(progress.attempt, *(progress.first - 1 + passed.attempts for passed in progress.passed), 0)
    return Progress(since_ns=at_ns, attempt=used + 1, first=used + 1, teardown_attempt=progress.teardown_attempt)


def _from_its_beginning(container: Container, at_ns: int) -> Container:
    progress = replace(container.progress, attempt=max(container.progress.attempt, container.started_attempt))
    return Container(container.id, _anew(progress, at_ns), container.requested, container.start_requested_ns)


def _on_forked_from(launch: Launch, recorded: Recorded) -> Launch:
    body = recorded.fact.body
    assert isinstance(body, events.ForkedFrom)  # noqa: S101 - as above
    if why := why_not_ordered(recorded, body.operator, None):
        return _ignore(launch, recorded, why)
    if recorded.index != 1 or body.pod == launch.pod:
        return _ignore(launch, recorded, "only a new launch can be another's fork")
    return replace(launch, forked=body)


_AGENT_LOST: Final = Diagnosis(
    Code.AGENT_LOST,
    "the pod's agent enclave ended; the keys in its memory went with it",
    expected="an agent that lives as long as its pod",
    got="its process exited",
    advice="create the pod again: a new agent must attest anew",
)
_POD_FACTS: Final[dict[type, tuple[str, str]]] = {
    events.SandboxCreated: ("create_sandbox", "sandbox"),
    events.AgentUp: ("launch_agent", "agent"),
    events.Attested: ("attest", "attested"),
}
_CONTAINER_FACTS: Final[dict[type, tuple[str, str]]] = {
    events.ImageDecrypted: ("decrypt_image", "decrypted"),
    events.FsSealed: ("seal_fs", "sealed"),
    events.ConfigDelivered: ("deliver_config", "delivered"),
    events.AppBooted: ("boot_app", "booted"),
}
_HANDLERS: Final = {
    events.PodRequested: _on_pod_requested,
    events.SandboxCreated: _on_pod_step,
    events.AgentUp: _on_pod_step,
    events.Attested: _on_pod_step,
    events.ContainerRequested: _on_container_requested,
    events.ImageDecrypted: _on_container_step,
    events.FsSealed: _on_container_step,
    events.StartRequested: _on_start_requested,
    events.AppStarted: _on_app_started,
    events.ConfigDelivered: _on_container_step,
    events.AppBooted: _on_container_step,
    events.StepFailed: _on_step_failed,
    events.Exited: _on_exited,
    events.StopRequested: _on_stop_requested,
    events.TornDown: _on_torn_down,
    events.AgentLost: _on_agent_lost,
    events.ResumeRequested: _on_resume_requested,
    events.ForkedFrom: _on_forked_from,
    events.ExecAdmitted: _on_exec,
    events.ExecRefused: _on_exec,
}
