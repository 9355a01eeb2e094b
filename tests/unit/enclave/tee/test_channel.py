"""The attested channel over real sockets, with someone in the middle where a test wants one."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pytest

from orchestrator.faults import Code, Fault, Permanent, Temporary
from tests.simulators.direct_tee import DirectTee
from workers.enclave.tee.channel import accept, connect
from workers.enclave.tee.judge import OnlyMeasurements

AGENT, BOOT = b"a" * 32, b"b" * 32


@contextlib.asynccontextmanager
async def wire(tamper=None):
    """Two connected streams over loopback TCP; `tamper(direction, count, chunk) -> bytes | None` sees each frame."""
    accepted: asyncio.Queue = asyncio.Queue()
    server = await asyncio.start_server(lambda *streams: accepted.put(streams), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pumps: list[asyncio.Task] = []
    near = await asyncio.open_connection("127.0.0.1", port)
    far = await accepted.get()
    if tamper is not None:
        beyond = await asyncio.open_connection("127.0.0.1", port)
        end = await accepted.get()
        ways = ((far[0], beyond[1], 0), (beyond[0], far[1], 1))
        pumps = [asyncio.create_task(pump(*way, tamper)) for way in ways]
        writers = [near[1], far[1], beyond[1], end[1]]
    else:
        end, writers = far, [near[1], far[1]]
    try:
        yield near, end
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for writer in writers:
            writer.close()
        server.close()


async def pump(reader, writer, direction, tamper) -> None:
    """Pass frames on, as the untrusted host does."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        for count in range(1000):
            header = await reader.readexactly(4)
            frame = header + await reader.readexactly(struct.unpack(">I", header)[0])
            changed = tamper(direction, count, frame)
            if changed is None:
                break
            writer.write(changed)
            await writer.drain()
    writer.close()


async def both(near, far, boot, agent, *, boot_wants=AGENT, agent_wants=BOOT):
    """The outcome at each end: a channel or a fault."""
    async with asyncio.timeout(20):
        return await asyncio.gather(
            connect(*near, boot, OnlyMeasurements(frozenset({boot_wants}))),
            accept(*far, agent, OnlyMeasurements(frozenset({agent_wants}))),
            return_exceptions=True,
        )


async def test_messages_cross_in_both_directions_and_in_order(agent, boot):
    async with wire() as (near, far):
        at_boot, at_agent = await both(near, far, boot, agent)
        assert (at_boot.peer.mrenclave, at_agent.peer.mrenclave) == (AGENT, BOOT)
        for number in range(20):
            await at_boot.send(str(number).encode())
            await at_agent.send(bytes(50_000))
        assert [int(await at_agent.receive()) for _ in range(20)] == list(range(20))
        assert {len(await at_boot.receive()) for _ in range(20)} == {50_000}


async def test_an_unwanted_peer_is_told_nothing_but_goodbye(agent, boot):
    async with wire() as (near, far):
        at_boot, at_agent = await both(near, far, boot, agent, agent_wants=b"x" * 32)
        assert isinstance(at_agent, Permanent)
        assert at_agent.code is Code.CONFIG_APP_MEASUREMENT
        assert isinstance(at_boot, Temporary)
        assert at_boot.code is Code.CONFIG_LOCAL_ATTESTATION


async def test_an_agent_that_is_not_wanted_gets_no_report(agent, boot):
    async with wire() as (near, far):
        at_boot, at_agent = await both(near, far, boot, agent, boot_wants=b"x" * 32)
        assert at_boot.code is Code.CONFIG_APP_MEASUREMENT
        assert isinstance(at_agent, Temporary)


@pytest.mark.parametrize(("direction", "count"), [(0, 0), (1, 0), (0, 1), (1, 1)])
async def test_a_host_that_changes_a_handshake_message_gets_no_channel(agent, boot, direction, count):
    def flip(where, number, frame):
        return frame[:-1] + bytes([frame[-1] ^ 1]) if (where, number) == (direction, count) else frame

    async with wire(flip) as (near, far):
        at_boot, at_agent = await both(near, far, boot, agent)
        faults = [end for end in (at_boot, at_agent) if isinstance(end, Fault)]
        assert isinstance(at_boot, Fault)
        assert Code.CONFIG_LOCAL_ATTESTATION in {fault.code for fault in faults}
        assert any(isinstance(fault, Permanent) for fault in faults)


@pytest.mark.parametrize("attack", ["flip", "double", "drop", "swap"])
async def test_a_host_that_touches_a_record_breaks_the_channel(agent, boot, attack):
    held = []

    def touch(direction, count, frame):
        if direction == 1 or count < 2:
            return frame
        match attack:
            case "flip":
                return frame[:-1] + bytes([frame[-1] ^ 1])
            case "double":
                return frame + frame
            case "drop":
                return frame if count > 2 else b""
            case _:
                held.append(frame)
                return b"" if len(held) == 1 else held[1] + held[0]

    async with wire(touch) as (near, far):
        at_boot, at_agent = await both(near, far, boot, agent)
        await at_boot.send(b"one")
        await at_boot.send(b"two")
        with pytest.raises(Permanent) as broken:
            await asyncio.wait_for(hear_two(at_agent), 20)
        assert broken.value.code is Code.CONFIG_LOCAL_ATTESTATION
        with pytest.raises(Fault):
            await at_agent.send(b"after")


async def hear_two(channel) -> None:
    assert await channel.receive() == b"one"
    await channel.receive()


@pytest.mark.parametrize("first", [b"", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x05hello", b"GET / HTTP/1.1\r\n" * 40])
async def test_a_stranger_at_the_agents_port_is_sent_away(agent, first):
    async with wire() as (near, far):
        near[1].write(first)
        near[1].write_eof()
        with pytest.raises(Fault) as sent_away:
            async with asyncio.timeout(20):
                await accept(*far, agent, OnlyMeasurements(frozenset({BOOT})))
        assert sent_away.value.code is Code.CONFIG_LOCAL_ATTESTATION


async def test_a_caller_that_gives_up_closes_the_stream(agent):
    async with wire() as (near, far):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await accept(*far, agent, OnlyMeasurements(frozenset({BOOT})))
        assert await near[0].read() == b""


async def test_the_end_of_the_stream_is_a_fault_and_never_an_empty_message(agent, boot):
    async with wire() as (near, far):
        at_boot, at_agent = await both(near, far, boot, agent)
        at_boot.close()
        with pytest.raises(Temporary):
            await at_agent.receive()
        with pytest.raises(Permanent):
            await at_boot.send(b"after the end")


async def test_a_whole_session_of_another_pod_cannot_be_replayed(cpu, agent, boot):
    spoken: list[bytes] = []

    def listen(direction, _count, frame):
        if direction == 0:
            spoken.append(frame)
        return frame

    async with wire(listen) as (near, far):
        at_boot, at_agent = await both(near, far, boot, agent)
        await at_boot.send(b"once")
        assert await at_agent.receive() == b"once"
    async with wire() as (near, far):
        for frame in spoken:
            near[1].write(frame)
        with pytest.raises(Permanent) as replayed:
            async with asyncio.timeout(20):
                await accept(*far, DirectTee(cpu, AGENT), OnlyMeasurements(frozenset({BOOT})))
        assert replayed.value.code is Code.CONFIG_LOCAL_ATTESTATION
