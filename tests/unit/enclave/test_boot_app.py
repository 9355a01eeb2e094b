"""boot_app: the word to boot, what boot init makes of it, and that no key is kept afterwards, whatever it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from orchestrator.events import AppBooted, Body
from orchestrator.faults import Code, Permanent, Temporary
from tests.network import Network, in_network
from tests.unit.enclave.pods import AgentPod, command, nothing_known
from tests.unit.enclave.test_sessions import Serving, served, serving
from workers.enclave import messages
from workers.enclave.boot_app import BootApp
from workers.enclave.execs import Execs
from workers.enclave.tee.channel import SecureChannel


async def tell(container: str, body: Body) -> None:
    raise AssertionError("nothing is told here")


@asynccontextmanager
async def told_to_boot(pod: AgentPod) -> AsyncIterator[tuple[asyncio.Task[AppBooted], SecureChannel, Serving]]:
    """A boot init that was told to boot, and the step that waits for what it says."""
    pod.sealed("c")
    async with serving(pod) as s:
        _, channel = await served(pod, s)
        step = BootApp(s.sessions, pod.works, Execs(tell))
        booting = asyncio.create_task(step(command("boot_app"), nothing_known()))
        assert messages.unpack(await asyncio.wait_for(channel.receive(), 10), "boot") == {"type": "boot"}
        try:
            yield booting, channel, s
        finally:
            booting.cancel()
            with suppress(asyncio.CancelledError, Permanent, Temporary):
                await booting
            assert pod.works.get("c") is None
            assert s.sessions._waiting == {}
            await s.quiet()


@in_network
async def test_what_boot_init_tells_is_the_fact(pod: AgentPod, network: Network) -> None:
    async with told_to_boot(pod) as (booting, channel, _):
        await channel.send(messages.pack("booted", nanoseconds=41_000_000, process=7))
        assert await asyncio.wait_for(booting, 10) == AppBooted(41_000_000, 7)
        channel.close()  # it stays open for commands beside the workload: see test_execs


@in_network
async def test_why_it_could_not_boot_is_told_in_its_words(pod: AgentPod, network: Network) -> None:
    async with told_to_boot(pod) as (booting, channel, _):
        fault = Permanent(Code.BOOT_PROCESS, "no such program", expected="/app", got="nothing", advice="look")
        await channel.send(messages.pack("failed", **messages.told(fault)))
        with pytest.raises(Permanent) as raised:
            await asyncio.wait_for(booting, 10)
        assert raised.value.diagnostics() == fault.diagnostics()


@in_network
async def test_one_that_goes_away_is_told_at_once(pod: AgentPod, network: Network) -> None:
    async with told_to_boot(pod) as (booting, channel, _):
        channel.close()
        with pytest.raises(Temporary) as raised:
            await asyncio.wait_for(booting, 10)
        assert raised.value.code is Code.CONFIG_LOCAL_ATTESTATION


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{}",
        b'{"type": "booted"}',
        b'{"type": "booted", "nanoseconds": "1", "process": 7}',
        b'{"type": "booted", "nanoseconds": 1, "process": true}',
        b'{"type": "accepted"}',
    ],
)
@in_network
async def test_what_it_may_not_say_is_a_fault(pod: AgentPod, network: Network, said: bytes) -> None:
    async with told_to_boot(pod) as (booting, channel, _):
        await channel.send(said)
        with pytest.raises(Permanent) as raised:
            await asyncio.wait_for(booting, 10)
        assert raised.value.code is Code.CONFIG_LOCAL_ATTESTATION


@in_network
async def test_a_step_whose_time_is_over_keeps_nothing(pod: AgentPod, network: Network) -> None:
    async with told_to_boot(pod) as (booting, channel, _):
        booting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await booting
        with pytest.raises(Temporary):
            await asyncio.wait_for(channel.receive(), 10)
