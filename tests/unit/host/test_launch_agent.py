"""launch_agent: one measured agent a pod, behind its doors, however often and by whomever it is asked for."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import stat
from dataclasses import replace
from pathlib import Path

import nkeys
import pytest

from orchestrator.bus import subjects
from orchestrator.faults import Code, Permanent, Temporary
from schemas.places import HTTP_DOOR, INIT_DATA, POD_FILE, STORES
from tests.simulators.enclaves import CpuProcess
from tests.unit.host.pods import HostPod, seen_inside
from workers.host.conmon import Streams
from workers.host.launch_agent import agent_cgroup
from workers.host.libos.backend import MountedBundle
from workers.host.libos.sim.backend import SimulatedLibOS
from workers.host.runc import Held, Role


async def enclaves(cpu: CpuProcess) -> dict[int, str]:
    """Pids and measurements."""
    return {enclave.pid: enclave.mrenclave for enclave in (await cpu.libos.status()).enclaves}


async def enroll(pod: HostPod) -> int:
    """Ask as an agent would; the status."""
    key = nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))).public_key.decode()
    body = json.dumps({"nkey": key}).encode()
    reader, writer = await pod.network.connect(HTTP_DOOR)
    writer.write(b"POST /enroll HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    answer = await asyncio.wait_for(reader.read(-1), 10)
    writer.close()
    return int(answer.split()[1])


async def test_the_agent_runs_measured_in_the_pods_network_behind_its_doors(pod: HostPod, cpu: CpuProcess) -> None:
    fact = await pod.launch_agent()(pod.command("launch_agent"), pod.launch)
    assert await pod.runc.state(pod.agent) == ("running", fact.pid)
    assert (fact.runc_id, fact.libos) == (pod.agent, "sim")
    bundle = await cpu.libos.prepare(pod.node.enclaves.agent_bundle)
    assert (fact.bundle_sha256, fact.measurement) == (bundle.image_sha256, bundle.expected_measurement.hex())
    assert (await enclaves(cpu))[fact.pid] == fact.measurement
    assert Path(f"/proc/{fact.pid}/ns/net").stat().st_ino == Path(pod.network.path).stat().st_ino
    assert await enroll(pod) == 200
    assert await pod.bus.stream.consumer_info(subjects.COMMANDS, subjects.pod_consumer(pod.id))


async def test_it_is_told_its_pod_and_the_owners_word_and_may_write_stores_only(pod: HostPod) -> None:
    fact = await pod.launch_agent()(pod.command("launch_agent"), pod.launch)
    told = json.loads(seen_inside(fact.pid, POD_FILE))
    assert told == {"pod": pod.id, "node": "node-a", "bus_ca": "the bus's authority\n"}
    assert seen_inside(fact.pid, INIT_DATA) == "the owner's word\n"
    mounts = Path(f"/proc/{fact.pid}/mountinfo").read_text().splitlines()
    access = {line.split()[4]: line.split()[5].split(",")[0] for line in mounts}
    assert (access["/"], access[POD_FILE], access[INIT_DATA], access[STORES]) == ("ro", "ro", "ro", "rw")
    assert stat.S_IMODE(pod.node.store_dir(pod.id).stat().st_mode) == 0o700


async def test_what_it_says_is_kept_whole_in_a_log_for_root_only(pod: HostPod) -> None:
    log = pod.node.agent_log(pod.id)
    await pod.launch_agent()(pod.command("launch_agent"), pod.launch)
    await pod.launch_agent()(pod.command("launch_agent", attempt=2), pod.launch)
    async with asyncio.timeout(10):
        while log.read_text().count("and warns") < 2:
            await asyncio.sleep(0.01)
    assert log.read_text() == "the agent is up\nand warns\n" * 2
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


async def test_asked_again_for_the_same_attempt_it_finds_the_agent_as_it_is(pod: HostPod) -> None:
    first = await pod.launch_agent()(pod.command("launch_agent"), pod.launch)
    assert await enroll(pod) == 200
    await pod.gate.close(pod.id)
    pod.gate = pod.another_gate()  # a worker that died before its fact was stored
    assert await pod.launch_agent()(pod.command("launch_agent"), pod.launch) == first
    assert await enroll(pod) == 404, "the agent that runs has its bus user"


async def test_the_next_attempt_has_an_agent_of_its_own(pod: HostPod, cpu: CpuProcess) -> None:
    first = await pod.launch_agent()(pod.command("launch_agent"), pod.launch)
    await enroll(pod)
    (pod.node.store_dir(pod.id) / "sealed by the first").touch()
    second = await pod.launch_agent()(pod.command("launch_agent", attempt=2), pod.launch)
    assert second.pid != first.pid
    assert not Path(f"/proc/{first.pid}").exists()
    assert second.pid in await enclaves(cpu)
    assert await enroll(pod) == 200
    assert list(pod.node.store_dir(pod.id).iterdir()) == [], "nobody has the key of what the first one sealed"
    assert [held.attempt for held in pod.runc.held()] == [2]
    assert pod.runc.ended() == []


@pytest.mark.parametrize("left", ["created", "stopped", "half-made"])
async def test_what_a_worker_that_died_left_is_made_again(pod: HostPod, run_dir: Path, left: str) -> None:
    if left == "half-made":
        (run_dir / "runc" / pod.agent).mkdir(mode=0o711)
    elif left == "stopped":
        fact = await pod.launch_agent()(pod.command("launch_agent"), pod.launch)
        os.kill(fact.pid, signal.SIGKILL)
        while pod.runc.exit_of(pod.agent) is None:
            await asyncio.sleep(0.01)
    else:
        _, bundle = pod.bundles.bundle("pod-agent")
        await pod.runc.create(Held(pod.agent, pod.id, "", Role.AGENT, 1), bundle, Streams())
    fact = await pod.launch_agent()(pod.command("launch_agent"), pod.launch)
    assert await pod.runc.state(pod.agent) == ("running", fact.pid)
    assert pod.runc.ended() == []


class Killing(SimulatedLibOS):
    """A LibOS on a machine where something kills processes that are not started yet."""

    async def enter(self, pid: int, bundle: MountedBundle, config_id: bytes, *, debug: bool = False) -> None:
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}/root").exists():
            await asyncio.sleep(0.01)
        await super().enter(pid, bundle, config_id, debug=debug)


async def test_an_agent_that_dies_while_it_is_started_is_worth_another_attempt(pod: HostPod, cpu: CpuProcess) -> None:
    with pytest.raises(Temporary) as raised:
        await pod.launch_agent(Killing(cpu.control, cpu.socket))(pod.command("launch_agent"), pod.launch)
    assert raised.value.code is Code.AGENT_NOT_STARTED
    fact = await pod.launch_agent()(pod.command("launch_agent", attempt=2), pod.launch)
    assert await pod.runc.state(pod.agent) == ("running", fact.pid)


async def test_a_cancelled_attempt_leaves_nothing_that_the_next_one_stumbles_over(pod: HostPod) -> None:
    for milliseconds in (5, 30, 60, 90, 120, 200):
        launching = asyncio.create_task(pod.launch_agent()(pod.command("launch_agent"), pod.launch))
        await asyncio.sleep(milliseconds / 1000)
        launching.cancel()
        await asyncio.wait([launching])
    fact = await pod.launch_agent()(pod.command("launch_agent", attempt=2), pod.launch)
    assert await pod.runc.state(pod.agent) == ("running", fact.pid)
    assert await enroll(pod) == 200


async def test_the_pod_may_say_which_init_data_it_wants(pod: HostPod) -> None:
    assert pod.launch.requested is not None
    digest = hashlib.sha256(b"the owner's word\n").hexdigest()
    wanted = replace(pod.launch, requested=replace(pod.launch.requested, init_data_sha256=digest))
    await pod.launch_agent()(pod.command("launch_agent"), wanted)
    other = replace(pod.launch, requested=replace(pod.launch.requested, init_data_sha256="00" * 32))
    with pytest.raises(Permanent) as raised:
        await pod.launch_agent()(pod.command("launch_agent", attempt=2), other)
    assert raised.value.code is Code.AGENT_INIT_DATA
    assert digest in raised.value.diagnosis.got
    pod.node.enclaves.init_data.unlink()
    with pytest.raises(Permanent) as raised:
        await pod.launch_agent()(pod.command("launch_agent", attempt=3), pod.launch)
    assert raised.value.code is Code.AGENT_INIT_DATA


async def test_a_network_that_is_gone_is_told_and_nothing_is_made(pod: HostPod) -> None:
    assert pod.launch.sandbox is not None
    gone = replace(pod.launch, sandbox=replace(pod.launch.sandbox, netns="/run/netns/gone"))
    with pytest.raises(Temporary) as taken_away:
        await pod.launch_agent()(pod.command("launch_agent"), gone)
    assert (taken_away.value.code, taken_away.value.diagnosis.expected) == (Code.RUNTIME, "/run/netns/gone")
    with pytest.raises(Permanent) as raised:
        await pod.launch_agent()(pod.command("launch_agent"), replace(pod.launch, sandbox=None))
    assert raised.value.code is Code.AGENT_NOT_STARTED
    assert pod.runc.held() == []


async def test_a_cpu_that_is_away_is_worth_waiting_for(pod: HostPod, tmp_path: Path) -> None:
    away = SimulatedLibOS(tmp_path / "none.sock", tmp_path / "none.sock")
    with pytest.raises(Temporary) as raised:
        await pod.launch_agent(away)(pod.command("launch_agent"), pod.launch)
    assert raised.value.code is Code.RUNTIME


@pytest.mark.parametrize(
    ("linux", "expected"),
    [
        ('{"cgroupsPath": "/kubepods/burstable/pod1/0f0f"}', "/kubepods/burstable/pod1/p-agent"),
        ("{}", "/enclave-cc/p-agent"),
        ("[]", "/enclave-cc/p-agent"),
        (None, "/enclave-cc/p-agent"),
    ],
)
def test_the_agents_cgroup_is_beside_its_pods(tmp_path: Path, linux: str | None, expected: str) -> None:
    if linux is not None:
        (tmp_path / "config.json").write_text(f'{{"linux": {linux}}}')
    assert agent_cgroup(tmp_path, "p") == expected
