"""The attested channel on a blocking socket, against the agent's own end of it and against whoever else may listen."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from orchestrator.faults import Code, Fault, Permanent, Temporary
from tests.simulators.direct_tee import DirectTee, machine
from workers.enclave.tee.blocking import BlockingChannel
from workers.enclave.tee.channel import SecureChannel, accept
from workers.enclave.tee.handshake import ANSWER_BYTES

AGENT = b"a" * 32


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """A connected socket; `serve` has the other end, in a thread, and its end is waited for."""
    near, far = socket.socketpair()
    near.settimeout(5)
    far.settimeout(5)

    def run() -> None:
        with far, suppress(OSError):
            serve(far)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        with near:
            yield near
    finally:
        thread.join(10)
        assert not thread.is_alive()


def as_agent(tee, judge, talk) -> Callable[[socket.socket], None]:
    """The agent's real end; `talk(channel)` goes on from there."""

    async def story(far: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=far.dup())
        with suppress(Fault):
            await talk(await accept(reader, writer, tee, judge))
        writer.close()

    return lambda far: asyncio.run(asyncio.wait_for(story(far), 10))


def test_messages_cross_in_both_directions_and_in_order(agent, boot, wants_boot, wants_agent) -> None:
    async def answer_twice(channel: SecureChannel) -> None:
        for _ in range(20):
            await channel.send(b"heard " + await channel.receive())
        await channel.send(bytes(1 << 20))

    with listening(as_agent(agent, wants_boot, answer_twice)) as near:
        channel = BlockingChannel.attest_to(near, boot, wants_agent)
        for number in range(20):
            channel.send(str(number).encode())
            assert channel.receive() == f"heard {number}".encode()
        assert channel.receive() == bytes(1 << 20)
        channel.close()


async def nothing(_: SecureChannel) -> None:
    return


def test_an_agent_that_is_not_wanted_gets_no_proof(agent, boot, wants_boot) -> None:
    def refuse(peer) -> None:
        raise Permanent(Code.CONFIG_APP_MEASUREMENT, "not this agent", expected="another", got=peer.mrenclave.hex())

    with listening(as_agent(agent, wants_boot, nothing)) as near, pytest.raises(Permanent) as raised:
        BlockingChannel.attest_to(near, boot, refuse)
    assert raised.value.code is Code.CONFIG_APP_MEASUREMENT


def test_an_agent_of_another_machine_is_refused(boot, wants_boot, wants_agent) -> None:
    elsewhere = DirectTee(machine(), AGENT)
    with listening(as_agent(elsewhere, wants_boot, nothing)) as near, pytest.raises(Fault) as raised:
        BlockingChannel.attest_to(near, boot, wants_agent)
    assert raised.value.code is Code.CONFIG_LOCAL_ATTESTATION


def test_an_agent_that_refuses_us_is_one_that_went_away(agent, boot, wants_agent) -> None:
    def refuse(_) -> None:
        raise Permanent(Code.CONFIG_APP_MEASUREMENT, "not this enclave", expected="another", got="this")

    with listening(as_agent(agent, refuse, nothing)) as near, pytest.raises(Temporary) as raised:
        BlockingChannel.attest_to(near, boot, wants_agent)
    assert raised.value.code is Code.CONFIG_LOCAL_ATTESTATION


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\0",
        struct.pack(">I", 0),
        struct.pack(">I", ANSWER_BYTES + 1) + bytes(ANSWER_BYTES + 1),
        b"\xff\xff\xff\xff" + bytes(1000),
        struct.pack(">I", ANSWER_BYTES) + bytes(ANSWER_BYTES),
        struct.pack(">I", ANSWER_BYTES) + os.urandom(ANSWER_BYTES),
        struct.pack(">I", ANSWER_BYTES) + bytes(10),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_a_stranger_at_the_agents_port_is_a_fault(boot, wants_agent, answer: bytes) -> None:
    """A workload may listen there before the agent does."""

    def serve(far: socket.socket) -> None:
        far.recv(4096)
        far.sendall(answer)

    with listening(serve) as near, pytest.raises(Fault) as raised:
        BlockingChannel.attest_to(near, boot, wants_agent)
    assert raised.value.code is Code.CONFIG_LOCAL_ATTESTATION


def test_one_that_never_answers_is_waited_for_as_long_as_the_socket_says(boot, wants_agent) -> None:
    def serve(far: socket.socket) -> None:
        while far.recv(4096):
            pass

    with listening(serve) as near:
        near.settimeout(0.2)
        with pytest.raises(Temporary):
            BlockingChannel.attest_to(near, boot, wants_agent)


@pytest.mark.parametrize("attack", ["flip", "cut", "length", "replay"])
def test_a_host_that_touches_a_record_breaks_the_channel(agent, boot, wants_boot, wants_agent, attack: str) -> None:
    async def send_three(channel: SecureChannel) -> None:
        for _ in range(3):
            await channel.send(b"the configuration")

    near, middle = socket.socketpair()
    with listening(as_agent(agent, wants_boot, send_three)) as far, near, middle:
        near.settimeout(5)
        middle.settimeout(5)
        between = threading.Thread(target=_pass_on, args=(middle, far, attack))
        between.start()
        channel = BlockingChannel.attest_to(near, boot, wants_agent)
        with pytest.raises(Fault) as raised:
            hear_three(channel)
        assert raised.value.code is Code.CONFIG_LOCAL_ATTESTATION
        if attack != "cut":
            with pytest.raises(Permanent):
                channel.send(b"after")
        near.close()
        between.join(10)


def hear_three(channel: BlockingChannel) -> None:
    for _ in range(3):
        channel.receive()


def _pass_on(middle: socket.socket, far: socket.socket, attack: str) -> None:
    """Two frames each way of the handshake as they are, then the agent's records, touched."""

    def frame(source: socket.socket) -> bytes:
        header = source.recv(4, socket.MSG_WAITALL)
        return header + source.recv(struct.unpack(">I", header)[0], socket.MSG_WAITALL)

    with suppress(OSError, struct.error):
        for source, sink in ((middle, far), (far, middle), (middle, far), (far, middle)):
            sink.sendall(frame(source))
        first = frame(far)
        match attack:
            case "flip":
                middle.sendall(first[:-1] + bytes([first[-1] ^ 1]))
            case "cut":
                middle.sendall(first[:-1])
                middle.shutdown(socket.SHUT_WR)
            case "length":
                middle.sendall(b"\xff\xff\xff\xff" + first[4:])
            case _:
                middle.sendall(first + first)
        while middle.recv(4096):
            pass


def test_a_message_too_long_is_refused_before_it_is_sent(agent, boot, wants_boot, wants_agent) -> None:
    async def hear(channel: SecureChannel) -> None:
        assert await channel.receive() == b"short"

    with listening(as_agent(agent, wants_boot, hear)) as near:
        channel = BlockingChannel.attest_to(near, boot, wants_agent)
        with pytest.raises(Permanent) as raised:
            channel.send(bytes((1 << 20) + 1))
        assert raised.value.code is Code.INPUT
        channel.send(b"short")


def test_the_end_of_the_stream_is_a_fault_and_a_closed_channel_says_nothing_more(
    agent, boot, wants_boot, wants_agent
) -> None:
    with listening(as_agent(agent, wants_boot, nothing)) as near:
        channel = BlockingChannel.attest_to(near, boot, wants_agent)
        with pytest.raises(Temporary):
            channel.receive()
        channel.close()
        channel.close()
        with pytest.raises(Permanent):
            channel.send(b"after the end")
