"""teardown: what was made for a pod or a container goes, whatever its state; an end is told before it is forgotten."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from nats.js.errors import NotFoundError

from orchestrator import events
from orchestrator.bus import Histories, subjects
from orchestrator.events import Exited, Fact, Recorded
from orchestrator.faults import Code, Diagnosis, Temporary
from orchestrator.launch import Failure
from orchestrator.lifecycle import State, Zone
from schemas.places import BUS_DOOR, HTTP_DOOR
from tests.machine import cgroups_naming, processes_naming
from tests.nats import NatsServer
from tests.simulators import history
from tests.simulators.enclaves import CpuProcess
from tests.unit.host.pods import HostPod
from workers.host.conmon import Streams
from workers.host.runc import Held, Role, Runc
from workers.host.teardown import KEPT_LOGS


async def pause(pod: HostPod) -> None:
    """The pod's sandbox, as create_sandbox leaves it."""
    await pod.runc.create(Held(pod.id, pod.id, "", Role.PAUSE, 1), pod.bundle, Streams())
    await pod.runc.start(pod.id)


async def launched(pod: HostPod, *names: str) -> list[str]:
    """A whole pod: pause, agent and these containers, on the node and in the history."""
    await pause(pod)
    await pod.launch_agent()(pod.command("launch_agent"), pod.launch)
    containers = [pod.container(name, store=f"{pod.bundles.prefix}{name}.1") for name in names]
    for id_ in containers:
        await pod.start_app()(pod.command("start_app", id_), pod.launch)
    histories = Histories(pod.bus)
    for body in (pod.launch.requested, pod.launch.sandbox):
        attempt = 1 if isinstance(body, events.SandboxCreated) else 0
        await histories.append(Fact(pod.id, body, Zone.HOST, "test", "", attempt))  # type: ignore[arg-type]
    for id_ in containers:
        requested = pod.launch.containers[id_].requested
        await histories.append(Fact(pod.id, requested, Zone.HOST, "test", id_))
    return containers


async def exits_told(pod: HostPod) -> dict[str, int]:
    """Statuses by container; the pause container's is that of ''."""
    read = await Histories(pod.bus).read(pod.id)
    facts = [recorded.fact for recorded in read if isinstance(recorded, Recorded)]
    told = [(fact.container, fact.body.code) for fact in facts if isinstance(fact.body, Exited)]
    assert len(dict(told)) == len(told), "each is told once"
    return dict(told)


def traces(pod: HostPod) -> list[object]:
    """What is left of it on this machine."""
    prefix, node = pod.bundles.prefix, pod.node
    files = [path for path in node.run_dir.rglob("*") if prefix in path.name]
    files += [path for path in node.state_dir.rglob("*") if prefix in path.name]
    return [*files, *processes_naming(prefix), *(path for path in cgroups_naming(prefix))]


async def consumer_exists(pod: HostPod) -> bool:
    try:
        await pod.bus.stream.consumer_info(subjects.COMMANDS, subjects.pod_consumer(pod.id))
    except NotFoundError:
        return False
    return True


def listening(pod: HostPod) -> bool:
    with suppress(ConnectionRefusedError):
        for port in (BUS_DOOR, HTTP_DOOR):
            pod.network.dial(port).close()
        return True
    return False


async def test_a_whole_pod_goes_and_nothing_is_left_of_it(pod: HostPod, cpu: CpuProcess) -> None:
    containers = await launched(pod, "a", "b")
    assert listening(pod)
    pids = {enclave.pid for enclave in (await cpu.libos.status()).enclaves}
    fact = await pod.teardown()(pod.command("teardown"), pod.launch)
    assert [entry for entry in fact.removed if "directory" not in entry] == [
        *(f"app {id_}" for id_ in sorted(containers)),
        f"agent {pod.agent}",
        f"pause {pod.id}",
    ]
    assert await exits_told(pod) == {"": 137, **dict.fromkeys(containers, 137)}
    assert not pids & {enclave.pid for enclave in (await cpu.libos.status()).enclaves}
    assert not listening(pod)
    assert not await consumer_exists(pod)
    assert traces(pod) == []


async def test_nothing_is_removed_where_nothing_is(pod: HostPod) -> None:
    pod.container("a")
    assert await pod.teardown()(pod.command("teardown"), pod.launch) == events.TornDown(())
    assert await pod.teardown()(pod.command("teardown", "absent"), pod.launch) == events.TornDown(())


async def test_it_may_be_repeated(pod: HostPod) -> None:
    await launched(pod, "a")
    first = await pod.teardown()(pod.command("teardown"), pod.launch)
    assert first.removed
    assert (await pod.teardown()(pod.command("teardown"), pod.launch)).removed == ()
    assert traces(pod) == []


@pytest.mark.parametrize("role", ["pause", "agent", "app"])
async def test_what_no_record_names_is_found_by_its_place(pod: HostPod, role: str) -> None:
    """A worker that dies leaves records half-written, and directories that runc does not know."""
    id_ = {"pause": pod.id, "agent": pod.agent, "app": pod.container("a")}[role]
    (pod.node.run_dir / "runc" / id_).mkdir(mode=0o711)
    (pod.node.run_dir / "held" / f"{id_}.json").write_text("{")
    await pod.teardown()(pod.command("teardown"), pod.launch)
    assert traces(pod) == []


async def test_what_a_cancelled_step_left_half_way_goes(pod: HostPod) -> None:
    await pause(pod)
    for milliseconds in (20, 60, 100):
        launching = asyncio.create_task(pod.launch_agent()(pod.command("launch_agent"), pod.launch))
        await asyncio.sleep(milliseconds / 1000)
        launching.cancel()
        await asyncio.wait([launching])
        await pod.teardown()(pod.command("teardown"), pod.launch)
        assert traces(pod) == []
        assert not listening(pod)


# --- one container ----------------------------------------------------------------------------------------------------


async def test_one_container_goes_and_its_pod_stays(pod: HostPod) -> None:
    one, other = await launched(pod, "a", "a2")
    fact = await pod.teardown()(pod.command("teardown", one), pod.launch)
    assert f"app {one}" in fact.removed
    assert f"store {one}.1" in fact.removed
    assert await exits_told(pod) == {one: 137}
    assert (await pod.runc.state(other))[0] == (await pod.runc.state(pod.agent))[0] == "running"
    assert {held.id for held in pod.runc.held()} == {other, pod.agent, pod.id}
    assert not (pod.node.pod_dir(pod.id) / "apps" / one).exists()
    assert (pod.node.pod_dir(pod.id) / "apps" / other / "config.json").exists()
    assert [path.name for path in pod.node.store_dir(pod.id).iterdir()] == [f"{other}.1"]
    assert listening(pod)


async def test_every_attempts_store_goes_with_its_container_and_no_others(pod: HostPod) -> None:
    """Names that begin alike are of other containers; the last store may not be named by the history."""
    id_ = pod.container("a")
    stores = pod.node.store_dir(pod.id)
    stores.mkdir(parents=True)
    for name in (f"{id_}.1", f"{id_}.2.partial", f"{id_}0.1", f"{id_}-b.1", "z.1"):
        (stores / name).write_text("sealed")
    (stores / f"{id_}.9").mkdir()  # an agent may write anything there
    fact = await pod.teardown()(pod.command("teardown", id_), pod.launch)
    assert {path.name for path in stores.iterdir()} == {f"{id_}0.1", f"{id_}-b.1", "z.1"}
    assert len(fact.removed) == 3


async def test_a_store_is_removed_by_the_containers_name_whatever_the_agent_called_it(
    pod: HostPod, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir(exist_ok=True)
    id_ = pod.container("a", store="another.1")
    outside = pod.node.state_dir / "stores" / "precious"
    outside.write_text("another's")
    sealed = pod.launch.containers[id_].sealed
    assert sealed is not None
    for name in ("../precious", "/etc/hostname", "*", "", "precious"):
        changed = replace(pod.launch.containers[id_], sealed=replace(sealed, store=name))
        await pod.teardown()(pod.command("teardown", id_), replace(pod.launch, containers={id_: changed}))
    assert outside.exists()
    assert Path("/etc/hostname").exists()
    assert (pod.node.store_dir(pod.id) / "another.1").exists()


# --- when something is away -------------------------------------------------------------------------------------------


async def test_while_the_bus_is_away_nothing_is_forgotten_and_later_it_is_told(
    pod: HostPod, server: NatsServer
) -> None:
    (container,) = await launched(pod, "a")
    server.kill()
    stopping = asyncio.create_task(pod.teardown()(pod.command("teardown"), pod.launch))
    await asyncio.sleep(0.5)
    assert any(held.id == container for held in pod.runc.held())
    await asyncio.to_thread(server.start)
    await asyncio.wait_for(stopping, 20)
    assert await exits_told(pod) == {"": 137, container: 137}
    assert traces(pod) == []


async def test_a_container_that_does_not_go_is_told_as_worth_another_attempt(pod: HostPod, tmp_path: Path) -> None:
    (container,) = await launched(pod, "a")
    stuck = tmp_path / "stuck-runc"
    stuck.write_text('#!/bin/sh\ncase " $* " in *" delete "*) exit 1 ;; esac\nexec /usr/sbin/runc "$@"\n')
    stuck.chmod(0o755)
    refusing = Runc(str(stuck), pod.node.run_dir)
    with pytest.raises(Temporary) as raised:
        await pod.teardown(refusing)(pod.command("teardown"), pod.launch)
    assert raised.value.code is Code.RUNTIME
    assert any(held.id == container for held in pod.runc.held())
    await pod.teardown()(pod.command("teardown"), pod.launch)
    assert traces(pod) == []


# --- the agent's log --------------------------------------------------------------------------------------------------


def failed(pod: HostPod) -> None:
    diagnosis = Diagnosis(Code.AGENT_LOST, "the agent ended")
    failure = Failure(State.SANDBOX, "attest", 1, diagnosis, 3)
    pod.launch = replace(pod.launch, progress=replace(pod.launch.progress, failure=failure))


@pytest.mark.parametrize("has_failed", [True, False])
async def test_the_agents_log_is_kept_for_who_asks_why_and_only_then(pod: HostPod, has_failed: bool) -> None:
    await pod.launch_agent()(pod.command("launch_agent"), pod.launch)
    if has_failed:
        failed(pod)
    await pod.teardown()(pod.command("teardown"), pod.launch)
    assert pod.node.agent_log(pod.id).exists() is has_failed


async def test_the_oldest_logs_go_first_but_none_of_an_agent_that_lives(pod: HostPod) -> None:
    await pod.launch_agent()(pod.command("launch_agent"), pod.launch)
    living = pod.node.agent_log(pod.id)
    os.utime(living, (1, 1))
    for number in range(KEPT_LOGS + 3):
        log = living.with_name(f"gone-{number:02}.log")
        log.touch()
        os.utime(log, (time.time() - 1000 + number,) * 2)
    other = replace(pod.command("teardown"), pod="gone-05")
    failure = replace(history.History("gone-05").requested(), pod="gone-05")
    failed(pod)
    await pod.teardown()(other, replace(failure, progress=pod.launch.progress))
    left = sorted(path.name for path in living.parent.iterdir())
    assert living.name in left
    assert left == sorted([living.name, *(f"gone-{number:02}.log" for number in range(3, KEPT_LOGS + 3))])
