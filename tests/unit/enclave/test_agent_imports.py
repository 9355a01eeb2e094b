"""An agent that is not attested yet has not spent time on what only containers need."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from deploy.kbs.certificates import Authority
from orchestrator.events import Command, FsSealed
from orchestrator.faults import Code, Temporary
from orchestrator.launch import Launch, new
from tests.simulators.direct_tee import DirectTee, machine
from tests.simulators.history import pod_requested
from workers.enclave.kbs import KbsClient
from workers.enclave.late import LateContainers, LateKbs

SEALED = FsSealed(root_hash="00", files=1, bytes=1, store="store")
COMMAND = Command("pod", "container", "seal_fs", 1, 1, 0)


def test_nothing_of_images_stores_launch_policies_and_the_key_broker_is_imported_before_an_order() -> None:
    shown = "import sys, workers.enclave.agent; print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True).stdout.split()
    late = ("workers.enclave.image", "workers.enclave.rootfs", "workers.enclave.launch_policy", "workers.enclave.boot")
    late += ("workers.enclave.kbs", "urllib3", "joserfc", "cryptography.x509")
    assert [name for name in modules if name.startswith(late)] == []


def test_there_is_one_client_of_the_key_broker_whoever_asks_first() -> None:
    made: list[str] = []
    ca_pem = Authority().credential.certificate.decode()

    def make() -> KbsClient:
        made.append("once more")
        if len(made) == 1:
            raise Temporary(Code.ATTEST_KBS_AWAY, "not yet")
        return KbsClient("https://broker.example", ca_pem, DirectTee(machine(), bytes(32)), None, None)

    late = LateKbs(make)
    with pytest.raises(Temporary):
        late()
    with ThreadPoolExecutor(8) as threads:
        assert len({id(client) for client in threads.map(lambda _: late(), range(16))}) == 1
    assert len(made) == 2


class Made:
    """What `make` gives, and when."""

    def __init__(self) -> None:
        self.times = 0
        self.serving = asyncio.Event()
        self.ahead: tuple[str, ...] = ()
        self.steps = {"seal_fs": self.seal}

    def __call__(self) -> Made:
        self.times += 1
        return self

    async def serve(self, ahead: tuple[str, ...]) -> None:
        self.ahead = ahead
        self.serving.set()
        await asyncio.Event().wait()

    async def seal(self, command: Command, launch: Launch) -> FsSealed:
        return SEALED


async def test_containers_are_made_once_after_the_step_that_wants_them_has_succeeded() -> None:
    made, away = Made(), [True]

    async def attest(command: Command, launch: Launch) -> FsSealed:
        if away:
            away.pop()
            raise Temporary(Code.ATTEST_KBS_AWAY, "not yet")
        return SEALED

    late = LateContainers(made)
    running = asyncio.create_task(late.run())
    step = late.wanted_after(attest)
    with pytest.raises(Temporary):
        await step(COMMAND, new("pod"))
    await asyncio.sleep(0.01)
    assert made.times == 0
    asked = replace(new("pod"), requested=replace(pod_requested(), prefetch=("registry/app:1",)))
    await step(COMMAND, asked)
    await step(COMMAND, asked)
    async with asyncio.timeout(30):
        await made.serving.wait()
        assert await late.step("seal_fs")(COMMAND, new("pod")) is SEALED
    assert (made.times, made.ahead) == (1, ("registry/app:1",))
    running.cancel()


async def test_a_step_that_comes_too_early_waits_and_one_that_gives_up_takes_nothing_from_the_next() -> None:
    made = Made()
    late = LateContainers(made)
    step = late.step("seal_fs")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await step(COMMAND, new("pod"))
    running = asyncio.create_task(late.run())
    async with asyncio.timeout(30):
        assert await step(COMMAND, new("pod")) is SEALED
    running.cancel()
