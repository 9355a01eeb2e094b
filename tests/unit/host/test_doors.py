"""A pod's two doors, asked from inside a network namespace by well-behaved and by other clients."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.local import authority
from orchestrator.faults import Code, Permanent, Temporary
from schemas.places import BUS_DOOR, HTTP_DOOR
from tests.machine import descriptors
from tests.network import Network
from workers.host.doors import CONNECTIONS, MAX_BODY, Answers, Door

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE = 0.6


@asynccontextmanager
async def server(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on the node's own loopback; its port."""
    running = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each piece with itself, and an end with an end."""
    with suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()


@dataclass
class Pod:
    """A door, and what is asked of it from inside."""

    door: Door
    network: Network
    enrolled: list[tuple[str, str]] = field(default_factory=list)

    async def say(self, raw: bytes, port: int = HTTP_DOOR) -> bytes:
        """Everything that is answered to these bytes."""
        reader, writer = await self.network.connect(port)
        try:
            writer.write(raw)
            async with asyncio.timeout(10):
                return await reader.read(-1)
        except OSError:
            return b""
        finally:
            writer.transport.abort()

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, object]]:
        head = f"{method} {path} HTTP/1.1\r\nHost: door\r\nContent-Length: {len(body)}\r\n\r\n"
        status, document = (await self.say(head.encode() + body)).split(b"\r\n\r\n", 1)
        return int(status.split()[1]), json.loads(document)

    async def tunnel(self, target: str, early: bytes = b"") -> tuple[int, Ends]:
        """The status, and the connection after the head of the answer."""
        reader, writer = await self.network.connect(HTTP_DOOR)
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode() + early)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        return int(head.split()[1]), (reader, writer)


@asynccontextmanager
async def pod(bus: int = 1, reachable: tuple[str, ...] = (), patience: float = PATIENCE) -> AsyncIterator[Pod]:
    enrolled: list[tuple[str, str]] = []

    async def enroll(pod: str, nkey: str) -> dict[str, str]:
        enrolled.append((pod, nkey))
        if nkey == "away":
            raise Temporary(Code.BUS_AWAY, "the bus does not answer")
        return {"jwt": f"jwt of {nkey}"}

    async def process(pod: str, container: str) -> dict[str, object]:
        if container == "none":
            raise Permanent(Code.NOT_FOUND, "no such container was requested", expected="one", got=container)
        return {"process": {"args": [pod, container]}}

    door = Door("p", ("127.0.0.1", bus), frozenset(reachable), Answers(enroll, process), patience)
    with Network() as network:
        await door.open(network.path)
        try:
            yield Pod(door, network, enrolled)
        finally:
            await door.close()
            assert door._connections == set()


# --- the bus ----------------------------------------------------------------------------------------------------------


async def test_the_bus_door_forwards_bytes_as_they_are() -> None:
    async with server(echo) as bus, pod(bus) as p:
        reader, writer = await p.network.connect(BUS_DOOR)
        sent = os.urandom(1 << 20)
        writer.write(sent)
        assert await asyncio.wait_for(reader.readexactly(len(sent)), 10) == sent
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 10) == b""
        writer.close()


async def test_a_bus_that_is_away_is_an_end_of_the_connection_and_nothing_worse() -> None:
    async with pod(bus=1) as p:
        assert await p.say(b"CONNECT {}", BUS_DOOR) == b""
        assert (await p.ask("GET", "/containers/c/process"))[0] == 200


# --- what may be reached ----------------------------------------------------------------------------------------------


async def test_a_listed_server_is_reached_through_tls_that_ends_there_and_not_here(tmp_path: Path) -> None:
    files = authority.create(tmp_path, ("registry",), ("127.0.0.1",))["registry"]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    async with server(echo, context) as port, pod(reachable=(f"127.0.0.1:{port}",)) as p:

        def talk() -> bytes:
            with p.network.dial(HTTP_DOOR) as plain:
                plain.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert plain.recv(4096).startswith(b"HTTP/1.1 200 ")
                with trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secret:
                    secret.sendall(b"a secret")
                    return secret.recv(100)

        assert await asyncio.to_thread(talk) == b"a secret"


async def test_bytes_sent_along_with_the_request_are_not_lost() -> None:
    async with server(echo) as port, pod(reachable=(f"127.0.0.1:{port}",)) as p:
        status, (reader, writer) = await p.tunnel(f"127.0.0.1:{port}", early=b"early ")
        writer.write(b"and late")
        writer.write_eof()
        assert (status, await asyncio.wait_for(reader.read(-1), 10)) == (200, b"early and late")
        writer.close()


async def test_an_end_in_one_direction_leaves_the_answer_its_way() -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"heard " + await reader.read(-1))
        writer.close()

    async with server(answer_at_the_end) as port, pod(reachable=(f"127.0.0.1:{port}",)) as p:
        _, (reader, writer) = await p.tunnel(f"127.0.0.1:{port}")
        writer.write(b"all")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 10) == b"heard all"
        writer.close()


@pytest.mark.parametrize(
    "target", ["127.0.0.1:{other}", "localhost:{port}", "127.0.0.1", "127.0.0.1:0{port}", "[::1]:{port}", "127.0.0.1:"]
)
async def test_what_is_not_listed_is_forbidden_and_not_connected_to(target: str) -> None:
    reached: list[object] = []

    async def reach(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(writer)
        writer.close()

    async with server(reach) as port, server(reach) as other, pod(reachable=(f"127.0.0.1:{port}",)) as p:
        status, (_, writer) = await p.tunnel(target.format(port=port, other=other))
        writer.close()
        assert (status, reached) == (403, [])


async def test_a_listed_server_that_is_away_is_a_bad_gateway() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{closed.getsockname()[1]}"
        async with pod(reachable=(target, "absent.invalid:443")) as p:
            for wanted in (target, "absent.invalid:443"):
                status, (_, writer) = await p.tunnel(wanted)
                writer.close()
                assert status == 502


# --- the questions ----------------------------------------------------------------------------------------------------


async def test_the_questions_are_answered_for_the_doors_own_pod() -> None:
    async with pod() as p:
        assert await p.ask("POST", "/enroll", b'{"nkey": "UABC"}') == (200, {"jwt": "jwt of UABC"})
        assert p.enrolled == [("p", "UABC")]
        assert await p.ask("GET", "/containers/c-1/process") == (200, {"process": {"args": ["p", "c-1"]}})


async def test_a_fault_is_told_by_its_code_and_by_whether_asking_again_may_help() -> None:
    async with pod() as p:
        status, told = await p.ask("GET", "/containers/none/process")
        assert (status, told["code"]) == (404, Code.NOT_FOUND.value)
        status, told = await p.ask("POST", "/enroll", b'{"nkey": "away"}')
        assert (status, told["code"]) == (503, Code.BUS_AWAY.value)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/enroll"),
        ("POST", "/containers/c/process"),
        ("GET", "/containers//process"),
        ("GET", "/containers/../process"),
        ("GET", "/containers/c%2f/process"),
        ("GET", f"/containers/{'c' * 129}/process"),
        ("DELETE", "/enroll"),
    ],
)
async def test_any_other_question_is_not_found(method: str, path: str) -> None:
    async with pod() as p:
        status, told = await p.ask(method, path)
        assert (status, told["code"]) == (404, Code.NOT_FOUND.value)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b'{"nkey": 1}', b'{"nkey": "a", "nkey": "b"}', b"[" * 4000, b"\xff", b"1" * 4000],
)
async def test_an_enrolment_without_a_key_is_refused(body: bytes) -> None:
    async with pod() as p:
        status, told = await p.ask("POST", "/enroll", body)
        assert (status, told["code"]) == (404, Code.INPUT.value)
        assert p.enrolled == []


# --- clients that misbehave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"\0" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000,
        b"POST /enroll HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + b"a" * (MAX_BODY + 1),
        b"POST /enroll HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"a" * 8192,
        b"POST /enroll HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /enroll HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\naa",
    ],
)
async def test_garbage_and_what_is_too_long_ends_its_connection_only(raw: bytes) -> None:
    async with pod() as p:
        assert await p.say(raw) == b""
        assert (await p.ask("GET", "/containers/c/process"))[0] == 200


@pytest.mark.parametrize("raw", [b"", b"POST /enroll HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"])
async def test_a_request_that_does_not_come_to_its_end_is_given_up(raw: bytes) -> None:
    async with pod() as p:
        began = time.monotonic()
        assert await p.say(raw) == b""
        assert time.monotonic() - began > PATIENCE * 0.9, "no sooner, however slow the machine"
        assert (await p.ask("GET", "/containers/c/process"))[0] == 200


async def test_a_client_that_drips_its_request_is_given_up_too() -> None:
    async with pod() as p:
        reader, writer = await p.network.connect(HTTP_DOOR)

        async def drip() -> None:
            while True:
                writer.write(b"a")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        with suppress(OSError):
            assert await asyncio.wait_for(reader.read(-1), 30) == b""
        dripping.cancel()
        writer.transport.abort()


async def test_a_workload_cannot_use_up_the_nodes_descriptors() -> None:
    async with pod(patience=20) as p:
        before = len(descriptors())

        def dial_many() -> list[socket.socket]:
            return [socket.create_connection(("127.0.0.1", HTTP_DOOR), timeout=10) for _ in range(2 * CONNECTIONS)]

        dialled = await asyncio.to_thread(p.network.inside, dial_many)
        await asyncio.sleep(0.2)
        assert len(p.door._connections) == CONNECTIONS
        assert len(descriptors()) - before <= 3 * CONNECTIONS
        for connection in dialled:
            connection.close()
        async with asyncio.timeout(10):
            while p.door._connections:
                await asyncio.sleep(0.02)
        assert (await p.ask("GET", "/containers/c/process"))[0] == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raws=st.lists(
        st.binary(max_size=300)
        | st.builds(
            lambda method, target, header, body: (
                b"%b %b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n%b" % (method, target, header, body)
            ),
            st.sampled_from([b"GET", b"POST", b"CONNECT", b"PUT", b""]),
            st.sampled_from([b"/enroll", b"/containers/c/process", b"a:1", b"*"]) | st.binary(max_size=40),
            st.sampled_from([b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Expect: 100-continue"])
            | st.binary(max_size=40),
            st.binary(max_size=60),
        ),
        max_size=4,
    )
)
def test_any_bytes_are_answered_or_ended(raws: list[bytes]) -> None:
    async def story() -> None:
        loop, unexpected = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: unexpected.append(context))
        async with pod() as p:
            for raw in raws:
                reader, writer = await p.network.connect(HTTP_DOOR)
                writer.write(raw)
                writer.write_eof()
                with suppress(OSError):
                    answered = await asyncio.wait_for(reader.read(-1), 10)
                    assert answered == b"" or answered.startswith(b"HTTP/1.1 ")
                writer.transport.abort()
        assert unexpected == []

    asyncio.run(story())


# --- opening and closing ----------------------------------------------------------------------------------------------


def free(network: Network) -> bool:
    """Whether nobody listens on either port."""
    for port in (BUS_DOOR, HTTP_DOOR):
        with suppress(ConnectionRefusedError):
            network.dial(port).close()
            return False
    return True


async def test_closing_ends_every_connection_and_frees_the_ports() -> None:
    async with server(echo) as port, pod(port, (f"127.0.0.1:{port}",), patience=20) as p:
        forwarded = await p.network.connect(BUS_DOOR)
        _, tunnelled = await p.tunnel(f"127.0.0.1:{port}")
        asking = await p.network.connect(HTTP_DOOR)
        asking[1].write(b"GET /")
        for reader, writer in (forwarded, tunnelled):
            writer.write(b"alive")
            assert await asyncio.wait_for(reader.readexactly(5), 30) == b"alive"
        await asyncio.wait_for(p.door.close(), 2)
        assert free(p.network)
        for reader, writer in (forwarded, tunnelled, asking):
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(-1), 30) == b""
            writer.close()
        await p.door.open(p.network.path)
        assert (await p.ask("GET", "/containers/c/process"))[0] == 200


async def test_closing_does_not_wait_for_a_client_that_reads_nothing() -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                writer.write(bytes(1 << 20))
                await writer.drain()

    async with server(flood) as port, pod(port) as p:
        _, writer = await p.network.connect(BUS_DOOR)
        await asyncio.sleep(0.3)
        await asyncio.wait_for(p.door.close(), 2)
        writer.transport.abort()


async def test_closing_while_clients_come_leaves_none_of_them_connected() -> None:
    async with server(echo) as port, pod(port) as p:
        clients: list[Ends] = []

        async def come() -> None:
            with suppress(OSError):
                while True:
                    clients.append(await p.network.connect(BUS_DOOR))

        coming = [asyncio.create_task(come()) for _ in range(4)]
        await asyncio.sleep(0.2)
        await asyncio.wait_for(p.door.close(), 30)
        await asyncio.wait_for(asyncio.gather(*coming), 30)
        assert clients
        for reader, writer in clients:
            with suppress(OSError):
                assert await asyncio.wait_for(reader.read(-1), 30) == b""
            writer.close()
        assert p.door._connections == set()


async def test_a_door_that_cannot_open_both_ports_opens_none() -> None:
    async with pod() as taken:
        other = Door("q", ("127.0.0.1", 1), frozenset(), taken.door._answers)
        with pytest.raises(OSError):
            await other.open(taken.network.path)
        assert other._servers == []
    with Network() as network:

        def take() -> socket.socket:
            return socket.create_server(("127.0.0.1", HTTP_DOOR))

        with network.inside(take), pytest.raises(OSError):
            await other.open(network.path)
        assert free(network)
        await other.open(network.path)
        await other.close()


async def test_a_cancelled_opening_opens_nothing() -> None:
    door = Door("p", ("127.0.0.1", 1), frozenset(), Answers(None, None))  # type: ignore[arg-type]
    with Network() as network:
        for steps in range(6):
            opening = asyncio.create_task(door.open(network.path))
            for _ in range(steps):
                await asyncio.sleep(0)
            opening.cancel()
            with suppress(asyncio.CancelledError):
                await opening
                await door.close()
            assert free(network), f"cancelled after {steps} turns of the loop"
