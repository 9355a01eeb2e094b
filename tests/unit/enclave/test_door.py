"""The agent's side of its pod's doors: asked of a real door, and of what an untrusted host may put there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.faults import Code, Fault, Permanent, Temporary
from schemas.places import HTTP_DOOR
from tests.network import in_own_network
from workers.enclave.door import MAX_ANSWER, Pod, enroll, proposed_process, read_pod
from workers.enclave.event_key import BusKey
from workers.host.doors import Answers, Door

POD = Pod("p" * 64, "node-a", "the bus's authority")


class Host:
    """A door as an honest host opens it, on this namespace's own loopback."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.fault: Fault | None = None

    async def enroll(self, pod: str, nkey: str) -> dict[str, str]:
        self.asked.append((pod, nkey))
        if self.fault is not None:
            raise self.fault
        return {"jwt": f"jwt of {nkey}"}

    async def process(self, pod: str, container: str) -> dict[str, object]:
        self.asked.append((pod, container))
        if self.fault is not None:
            raise self.fault
        return {"process": {"args": ["redis"]}, "annotations": {"ä": "\U0001f512"}}

    async def __aenter__(self) -> Self:
        self.door = Door("p", ("127.0.0.1", 1), frozenset(), Answers(self.enroll, self.process))
        await self.door.open("/proc/thread-self/ns/net")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.door.close()


@in_own_network
async def test_enrolling_gives_the_credentials_of_this_pods_agent() -> None:
    key = BusKey()
    async with Host() as host:
        credentials = await asyncio.to_thread(enroll, POD, key)
    assert host.asked == [("p", key.nkey)]
    assert (credentials.jwt, credentials.ca_pem) == (f"jwt of {key.nkey}", POD.bus_ca)
    assert (credentials.url, credentials.inbox, credentials.reader) == (
        "tls://127.0.0.1:61440",
        f"_INBOX_{POD.id}",
        f"pod-{POD.id}",
    )
    assert credentials.sign is not None
    assert credentials.sign("nonce") == key.answer("nonce")


@in_own_network
async def test_a_proposal_is_what_the_host_says_and_no_more_than_that() -> None:
    async with Host() as host:
        proposed = await asyncio.to_thread(proposed_process, "app-1")
        assert host.asked == [("p", "app-1")]
    assert proposed == {"process": {"args": ["redis"]}, "annotations": {"ä": "\U0001f512"}}


@in_own_network
async def test_a_host_that_waits_itself_is_worth_asking_again_and_one_that_refuses_is_not() -> None:
    async with Host() as host:
        host.fault = Temporary(Code.BUS_AWAY, "the history could not be read")
        for call in (lambda: enroll(POD, BusKey()), lambda: proposed_process("app")):
            with pytest.raises(Temporary) as away:
                await asyncio.to_thread(call)
            assert away.value.code is Code.BUS_AWAY
            assert "the history could not be read" in away.value.diagnosis.got
        host.fault = Permanent(Code.NOT_FOUND, "no such container was requested")
        with pytest.raises(Permanent) as refused:
            await asyncio.to_thread(proposed_process, "app")
        assert refused.value.code is Code.INPUT
        assert "no such container" in refused.value.diagnosis.got


@in_own_network
async def test_a_door_that_is_closed_is_worth_asking_again() -> None:
    with pytest.raises(Temporary) as raised:
        await asyncio.to_thread(enroll, POD, BusKey())
    assert raised.value.code is Code.BUS_AWAY


# --- a host that plays tricks -----------------------------------------------------------------------------------------


async def answered_with(answer: bytes, ask: Callable[[], object]) -> object:
    """What comes of asking a host that answers every connection with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        with suppress(OSError):
            writer.write(answer)
            writer.write_eof()
            await reader.read()  # to the end: closing before what was sent is read would take the answer back
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", HTTP_DOOR)
    try:
        return await asyncio.to_thread(ask)
    finally:
        server.close()


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


@pytest.mark.parametrize(
    "raw",
    [
        answer(b""),
        answer(b"{}"),
        answer(b"[]"),
        answer(b"null"),
        answer(b"{"),
        answer(b"[" * 500_000),
        answer(b"9" * 500_000),
        answer(b'{"jwt": "a", "jwt": "b"}'),
        answer(b'{"jwt": 7}'),
        answer(b'{"jwt": "x"}', "404 Not Found"),
        answer(b'{"jwt": "x"}', "302 Found\r\nLocation: http://elsewhere/"),
        answer(b'{"jwt": "' + b"x" * (MAX_ANSWER + 1) + b'"}'),
        answer(b"\xff\xfe", "500 No"),
    ],
)
@in_own_network
async def test_an_answer_of_another_form_is_refused(raw: bytes) -> None:
    with pytest.raises(Permanent) as raised:
        await answered_with(raw, lambda: enroll(POD, BusKey()))
    assert raised.value.code is Code.INPUT


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000,
        answer(b'{"process": {}}')[:-1],
        b'HTTP/1.1 200 OK\r\n\r\n{"process": {}}',
    ],
)
@in_own_network
async def test_what_is_no_whole_answer_is_as_good_as_none(raw: bytes) -> None:
    with pytest.raises(Temporary):
        await answered_with(raw, lambda: proposed_process("app"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.binary(max_size=400)
    | st.builds(answer, st.binary(max_size=200), st.sampled_from(["200 OK", "404 No", "503 Later", "999 ?", "1 x"]))
    | st.builds(
        lambda document: answer(json.dumps(document).encode()),
        st.recursive(
            st.none() | st.booleans() | st.text(max_size=5), lambda of: st.lists(of, max_size=3), max_leaves=5
        ),
    )
)
@in_own_network
async def test_whatever_a_host_answers_is_an_object_or_a_fault(raw: bytes) -> None:
    with suppress(Fault):
        assert isinstance(await answered_with(raw, lambda: proposed_process("app")), dict)


# --- who it is for ----------------------------------------------------------------------------------------------------


def test_the_host_says_which_pod_the_agent_is_for(tmp_path: Path) -> None:
    file = tmp_path / "pod.json"
    file.write_text('{"pod": "p", "node": "n", "bus_ca": "PEM"}')
    assert read_pod(file) == Pod("p", "n", "PEM")


@pytest.mark.parametrize(
    "raw", [None, b"", b"{}", b"[]", b'{"pod": 1, "node": "n", "bus_ca": "c"}', b"\xff", b"[" * 100_000]
)
def test_a_host_that_does_not_say_so_starts_no_agent(tmp_path: Path, raw: bytes | None) -> None:
    file = tmp_path / "pod.json"
    if raw is not None:
        file.write_bytes(raw)
    with pytest.raises(Permanent) as raised:
        read_pod(file)
    assert raised.value.code is Code.AGENT_NOT_STARTED
