"""App enclaves that come to the agent over real sockets and attest themselves: who is served, once, and who is not."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from orchestrator.faults import Code, Fault, Permanent, Temporary
from schemas.places import AGENT_PORT
from tests.network import Network, in_network
from tests.simulators.broker import MEASUREMENT
from tests.simulators.direct_tee import DirectTee, machine
from tests.unit.enclave.pods import BOOT, STRANGER, AgentPod
from workers.enclave import messages
from workers.enclave.sessions import LOOK, Session, Sessions
from workers.enclave.tee.channel import SecureChannel, connect
from workers.enclave.tee.judge import OnlyMeasurements

AGENT = OnlyMeasurements(frozenset({MEASUREMENT}), allow_debug=True)


@dataclass
class Serving:
    sessions: Sessions
    task: asyncio.Task[None]

    async def quiet(self) -> None:
        """Nobody is connected any more."""
        async with asyncio.timeout(30):
            while self.sessions._open:
                await asyncio.sleep(0.02)

    def waiting(self, container: str, attempt: int = 1) -> asyncio.Task[Session]:
        return asyncio.create_task(self.sessions.wait(container, attempt))


@asynccontextmanager
async def serving(pod: AgentPod, *, debug: bool = False) -> AsyncIterator[Serving]:
    sessions = pod.sessions(debug=debug)
    task = asyncio.create_task(sessions.serve())
    try:
        yield Serving(sessions, task)
    finally:
        assert not task.done() or task.cancelled()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(10):
        while True:
            with suppress(ConnectionRefusedError):
                return await asyncio.open_connection("127.0.0.1", AGENT_PORT)
            await asyncio.sleep(0.01)


async def come(tee: DirectTee, **hello: object) -> SecureChannel:
    """An app enclave that proves itself and says for which container it is."""
    channel = await connect(*await dial(), tee, AGENT)
    await channel.send(messages.pack("hello", **hello))
    return channel


async def served(pod: AgentPod, s: Serving, container: str = "c") -> tuple[Session, SecureChannel]:
    waiting = s.waiting(container)
    channel = await come(pod.boot(), container=container, attempt=1)
    return await asyncio.wait_for(waiting, 10), channel


@in_network
async def test_an_app_enclave_that_proves_itself_is_handed_to_the_step_that_waits(
    pod: AgentPod, network: Network
) -> None:
    pod.sealed("c")
    async with serving(pod) as s:
        session, channel = await served(pod, s)
        assert session.peer.mrenclave == BOOT
        await session.channel.send(b"from the agent")
        assert await channel.receive() == b"from the agent"
        await channel.send(b"from the app")
        assert await session.channel.receive() == b"from the app"


@in_network
async def test_one_that_comes_before_its_step_is_waited_with(pod: AgentPod, network: Network) -> None:
    pod.sealed("c")
    async with serving(pod) as s:
        channel = await come(pod.boot(), container="c", attempt=1)
        await asyncio.sleep(0.05)
        session = await asyncio.wait_for(s.sessions.wait("c", 1), 10)
        assert await asyncio.wait_for(s.sessions.wait("c", 1), 10) is session, "a later step has it too"
        await session.channel.send(b"boot")
        assert await channel.receive() == b"boot"


@in_network
async def test_several_containers_get_each_their_own(pod: AgentPod, network: Network) -> None:
    names = [f"c{number}" for number in range(4)]
    for name in names:
        pod.sealed(name)
    async with serving(pod) as s:
        waiting = [s.waiting(name) for name in names]
        channels = await asyncio.gather(*(come(pod.boot(), container=name, attempt=1) for name in reversed(names)))
        for name, session, channel in zip(names, await asyncio.gather(*waiting), reversed(channels), strict=True):
            await session.channel.send(name.encode())
            assert await channel.receive() == name.encode()


# --- who is refused ---------------------------------------------------------------------------------------------------


async def refusal(channel: SecureChannel) -> Permanent:
    with pytest.raises(Permanent) as raised:
        messages.unpack(await asyncio.wait_for(channel.receive(), 10), "config")
    return raised.value


@pytest.mark.parametrize(
    "hello",
    [
        {"container": "another", "attempt": 1},
        {"container": "unsealed", "attempt": 1},
        {"container": None, "attempt": 1},
        {"attempt": 1},
        {"container": ["c"], "attempt": 1},
        {"container": "c" * 100_000, "attempt": 1},
    ],
)
@in_network
async def test_one_for_which_there_is_nothing_here_is_told_so(
    pod: AgentPod, network: Network, hello: dict[str, object]
) -> None:
    pod.sealed("c")
    pod.decrypted("unsealed")
    async with serving(pod) as s:
        fault = await refusal(await come(pod.boot(), **hello))
        assert fault.code is Code.CONFIG_USED
        assert len(fault.diagnosis.got) <= 128
        await s.quiet()
        assert s.sessions._waiting == {}


@in_network
async def test_a_container_is_served_once(pod: AgentPod, network: Network) -> None:
    pod.sealed("c")
    async with serving(pod) as s:
        await served(pod, s)
        assert (await refusal(await come(pod.boot(), container="c", attempt=1))).code is Code.CONFIG_USED


@in_network
async def test_an_enclave_of_another_measurement_is_refused_and_the_one_step_that_waits_is_told(
    pod: AgentPod, network: Network
) -> None:
    pod.sealed("c")
    async with serving(pod) as s:
        waiting = s.waiting("c")
        with pytest.raises(Fault):
            await (await come(pod.boot(STRANGER), container="c", attempt=1)).receive()
        with pytest.raises(Permanent) as raised:
            await asyncio.wait_for(waiting, 10)
        assert raised.value.code is Code.CONFIG_APP_MEASUREMENT
        assert STRANGER.hex() in raised.value.diagnostics()


@in_network
async def test_where_several_wait_nobody_knows_whose_it_was(pod: AgentPod, network: Network) -> None:
    for name in ("a", "b"):
        pod.sealed(name)
    async with serving(pod) as s:
        both = [s.waiting(name) for name in ("a", "b")]
        with suppress(Fault):
            await (await come(pod.boot(STRANGER), container="a", attempt=1)).receive()
        await s.quiet()
        assert not any(task.done() for task in both)
        for name, waiting in zip(("a", "b"), both, strict=True):
            await come(pod.boot(), container=name, attempt=1)
            await asyncio.wait_for(waiting, 10)


@in_network
async def test_a_step_that_gave_up_waits_no_more_for_anybodys_mistake(pod: AgentPod, network: Network) -> None:
    """Else the one that still waits would not be told, as one of two."""
    for name in ("gone", "c"):
        pod.sealed(name)
    async with serving(pod) as s:
        given_up = s.waiting("gone")
        await asyncio.sleep(0.02)
        given_up.cancel()
        await asyncio.wait([given_up])
        waiting = s.waiting("c")
        with suppress(Fault):
            await (await come(pod.boot(STRANGER), container="c", attempt=1)).receive()
        with pytest.raises(Permanent) as raised:
            await asyncio.wait_for(waiting, 10)
        assert raised.value.code is Code.CONFIG_APP_MEASUREMENT


@pytest.mark.parametrize("agents", [False, True])
@in_network
async def test_a_debuggable_enclave_is_served_by_a_debuggable_agent_only(
    pod: AgentPod, network: Network, agents: bool
) -> None:
    pod.sealed("c")
    async with serving(pod, debug=agents) as s:
        waiting = s.waiting("c")
        with suppress(Fault):
            await come(pod.boot(debug=True), container="c", attempt=1)
        if agents:
            await asyncio.wait_for(waiting, 10)
        else:
            with pytest.raises(Permanent):
                await asyncio.wait_for(waiting, 10)


@in_network
async def test_an_enclave_of_another_machine_is_nobody(pod: AgentPod, network: Network) -> None:
    pod.sealed("c")
    async with serving(pod) as s:
        waiting = s.waiting("c")
        with pytest.raises(Fault):
            await (await come(DirectTee(machine(), BOOT), container="c", attempt=1)).receive()
        await s.quiet()
        assert not waiting.done()
        await come(pod.boot(), container="c", attempt=1)
        await asyncio.wait_for(waiting, 10)


@pytest.mark.parametrize("garbage", [b"", b"\0" * 4, b"\xff" * 5000, b"GET / HTTP/1.1\r\n\r\n", os.urandom(3000)])
@in_network
async def test_garbage_from_the_pods_network_stops_nobody(pod: AgentPod, network: Network, garbage: bytes) -> None:
    pod.sealed("c")
    async with serving(pod) as s:
        waiting = s.waiting("c")
        for _ in range(3):
            _, writer = await dial()
            writer.write(garbage)
            writer.close()
        await s.quiet()
        await come(pod.boot(), container="c", attempt=1)
        await asyncio.wait_for(waiting, 10)


@pytest.mark.parametrize(
    "said", [b"", b"{", b'{"type": "accepted"}', b'{"type": "hello", "type": "hello"}', b"[" * 9999]
)
@in_network
async def test_an_attested_enclave_that_says_something_else_is_left(
    pod: AgentPod, network: Network, said: bytes
) -> None:
    pod.sealed("c")
    async with serving(pod) as s:
        channel = await connect(*await dial(), pod.boot(), AGENT)
        await channel.send(said)
        with pytest.raises(Temporary):
            await asyncio.wait_for(channel.receive(), 10)
        await s.quiet()


# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["closed by the app", "reset by the app", "closed by the step", "more than was read"])
@in_network
async def test_a_session_that_has_ended_leaves_nothing_open(pod: AgentPod, network: Network, how: str) -> None:
    pod.sealed("c")
    async with serving(pod) as s:
        session, channel = await served(pod, s)
        match how:
            case "closed by the app":
                channel.close()
            case "reset by the app":
                plug: socket.socket = channel._writer.get_extra_info("socket")
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                channel._writer.transport.abort()
            case "closed by the step":
                session.channel.close()
            case _:
                await channel.send(b"never read")
                await asyncio.sleep(0.05)
                session.channel.close()
        async with asyncio.timeout(4 * LOOK):
            while s.sessions._open:
                await asyncio.sleep(0.02)


@in_network
async def test_the_step_learns_at_once_that_its_enclave_went_away(pod: AgentPod, network: Network) -> None:
    pod.sealed("c")
    async with serving(pod) as s:
        session, channel = await served(pod, s)
        channel.close()
        with pytest.raises(Temporary) as raised:
            await asyncio.wait_for(session.channel.receive(), 30)
        assert raised.value.code is Code.CONFIG_LOCAL_ATTESTATION
        assert await asyncio.wait_for(s.sessions.wait("c", 1), 1) is session, "so does the next step"


@in_network
async def test_what_is_of_containers_that_are_gone_is_forgotten(pod: AgentPod, network: Network) -> None:
    for name in ("old", "new"):
        pod.sealed(name)
    async with serving(pod) as s:
        await served(pod, s, "old")
        pod.works.keep({"new"})
        await served(pod, s, "new")
        assert set(s.sessions._waiting) == {("new", 1)}
        s.sessions.forget("new", 1)
        s.sessions.forget("new", 1)
        assert s.sessions._waiting == {}


@in_network
async def test_an_agent_that_ends_ends_its_conversations(pod: AgentPod, network: Network) -> None:
    pod.sealed("c")
    async with serving(pod) as s:
        _, channel = await served(pod, s)
        s.task.cancel()
        with pytest.raises(Temporary):
            await asyncio.wait_for(channel.receive(), 30)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", AGENT_PORT)
