"""create_sandbox: one pause container a pod, by real runc, however often and by whomever it is asked for."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.events import Command
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch, new
from tests.busybox import Bundles
from tests.simulators import history
from workers.host.conmon import Streams
from workers.host.create_sandbox import CreateSandbox, network_namespace
from workers.host.runc import Held, Role, Runc


class Pod:
    """A pod whose bundle containerd has made; the pod's id is its pause container's."""

    def __init__(self, bundles: Bundles) -> None:
        self.id, self.bundle = bundles.bundle("pod")
        document = bundles.spec(self.id)
        self.netns = "/proc/self/ns/net"
        document["linux"]["namespaces"].append({"type": "network", "path": self.netns})
        (self.bundle / "config.json").write_text(json.dumps(document))

    @property
    def launch(self) -> Launch:
        return replace(new(self.id), requested=replace(history.pod_requested(), bundle=str(self.bundle)))

    def command(self, attempt: int = 1) -> Command:
        return Command(self.id, "", "create_sandbox", attempt, 1, 0)

    def held(self, attempt: int = 1) -> Held:
        return Held(self.id, self.id, "", Role.PAUSE, attempt)


@pytest.fixture
def pod(bundles: Bundles) -> Pod:
    return Pod(bundles)


async def test_the_pause_container_runs_and_the_fact_says_where(pod: Pod, runc: Runc) -> None:
    fact = await CreateSandbox(runc, Path)(pod.command(), pod.launch)
    assert (fact.runc_id, fact.netns) == (pod.id, pod.netns)
    assert await runc.state(pod.id) == ("running", fact.pid)
    assert runc.held() == [pod.held()]


async def test_asked_again_it_finds_what_it_made(pod: Pod, runc: Runc) -> None:
    step = CreateSandbox(runc, Path)
    first = await step(pod.command(), pod.launch)
    assert await step(pod.command(), pod.launch) == first
    assert await CreateSandbox(runc, Path)(pod.command(attempt=2), pod.launch) == first


@pytest.mark.parametrize("state", ["created", "stopped", "half-made"])
async def test_what_an_earlier_attempt_left_is_made_again(pod: Pod, runc: Runc, run_dir: Path, state: str) -> None:
    if state == "half-made":
        (run_dir / "runc" / pod.id).mkdir(mode=0o711)
        (run_dir / "held" / f"{pod.id}.json").write_text("{")
    else:
        pid = await runc.create(pod.held(), pod.bundle, Streams())
        if state == "stopped":
            await runc.start(pod.id)
            await runc.kill(pod.id, 9)
            while runc.exit_of(pod.id) is None:
                await asyncio.sleep(0.01)
    fact = await CreateSandbox(runc, Path)(pod.command(attempt=2), pod.launch)
    assert await runc.state(pod.id) == ("running", fact.pid)
    assert runc.held() == [pod.held(attempt=2)]
    assert runc.ended() == [], "the exit of what was replaced is nobody's news"
    assert state == "half-made" or fact.pid != pid


async def test_what_a_worker_that_died_is_still_making_is_waited_for(pod: Pod, run_dir: Path, tmp_path: Path) -> None:
    """Its conmon goes on; to make another beside it would fail, or leave two."""
    slow = tmp_path / "slow-runc"
    slow.write_text('#!/bin/sh\ncase " $* " in *" create "*) sleep 0.5 ;; esac\nexec /usr/sbin/runc "$@"\n')
    slow.chmod(0o755)
    runc = Runc(str(slow), run_dir)
    dying = asyncio.create_task(CreateSandbox(runc, Path)(pod.command(), pod.launch))
    while not (run_dir / "held" / f"{pod.id}.conmon").exists():
        await asyncio.sleep(0.01)
    dying.cancel()
    await asyncio.wait([dying])
    fact = await CreateSandbox(runc, Path)(pod.command(attempt=2), pod.launch)
    assert await runc.state(pod.id) == ("running", fact.pid)
    assert runc.held() == [pod.held(attempt=2)]


async def test_what_runc_cannot_make_is_told_in_its_words(pod: Pod, runc: Runc) -> None:
    document = json.loads((pod.bundle / "config.json").read_text())
    document["process"]["args"] = ["/no/such/pause"]
    (pod.bundle / "config.json").write_text(json.dumps(document))
    with pytest.raises(Permanent) as raised:
        await CreateSandbox(runc, Path)(pod.command(), pod.launch)
    assert raised.value.code is Code.RUNTIME
    assert "/no/such/pause" in raised.value.diagnosis.got


@pytest.mark.parametrize(
    "namespaces",
    [[], [{"type": "pid"}], [{"type": "network"}], [{"type": "network", "path": ""}]],
    ids=["none", "no network", "no path", "empty path"],
)
def test_a_pod_on_the_nodes_own_network_is_refused(pod: Pod, namespaces: list[object]) -> None:
    (pod.bundle / "config.json").write_text(json.dumps({"linux": {"namespaces": namespaces}}))
    with pytest.raises(Permanent) as raised:
        network_namespace(pod.bundle)
    assert raised.value.code is Code.SANDBOX_HOST_NETWORK
    assert raised.value.diagnosis.got
    assert "hostNetwork" in raised.value.diagnosis.advice


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "7", "null", '"linux"', "{}", '{"linux": []}', '{"linux": {}}', "[" * 100_000),
        *('{"linux": {"namespaces": 1}}', '{"linux": {"namespaces": [1]}}', '{"linux": {"namespaces": null}}'),
        '{"linux": {"namespaces": [{"type": "network", "path": 7}]}}',
    ],
)
def test_a_bundle_that_is_none_is_refused(pod: Pod, text: str) -> None:
    (pod.bundle / "config.json").write_text(text)
    with pytest.raises(Permanent) as raised:
        network_namespace(pod.bundle)
    assert raised.value.code is Code.SANDBOX_NOT_CREATED


async def test_a_pod_that_nobody_requested_has_no_bundle(pod: Pod, runc: Runc) -> None:
    with pytest.raises(Permanent) as raised:
        await CreateSandbox(runc, Path)(pod.command(), new(pod.id))
    assert raised.value.code is Code.SANDBOX_NOT_CREATED
    (pod.bundle / "config.json").unlink()
    with pytest.raises(Permanent):
        network_namespace(pod.bundle)
