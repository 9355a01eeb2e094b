"""The doors of a node's pods, and who gets what there; the histories are on a real bus."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nkeys
import pytest

from orchestrator.bus import Bus, Histories
from orchestrator.events import Fact
from orchestrator.faults import Code, Permanent
from orchestrator.lifecycle import Zone
from schemas.places import BUS_DOOR, HTTP_DOOR
from tests.network import Network
from tests.simulators import history
from tests.simulators.history import APP, POD
from workers.host.bus_users import AgentSigner
from workers.host.gate import Gate, _claim
from workers.host.node import Node

OTHER = "b" * 64


def nkey() -> str:
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return str(nkeys.from_seed(bytearray(seed)).public_key.decode())


@dataclass
class Stage:
    node: Node
    bus: Bus
    gate: Gate

    def another_gate(self) -> Gate:
        """As a worker that was started again has it."""
        return Gate(self.node, AgentSigner.load(self.node.credentials["agent_signer"]), Histories(self.bus))

    async def request(self, pod: str, container: str, bundle: Path) -> None:
        """What containerd asks for, as the history tells it."""
        histories = Histories(self.bus)
        await histories.append(Fact(pod, history.pod_requested(), Zone.HOST, "shim"))
        body = replace(history.container_requested(container), bundle=str(bundle))
        await histories.append(Fact(pod, body, Zone.HOST, "shim", container))


@pytest.fixture
async def stage(node: Callable[..., Node], bus: Bus) -> AsyncIterator[Stage]:
    configured = node(bus.credentials.url)
    made = Stage(configured, bus, None)  # type: ignore[arg-type]
    made.gate = made.another_gate()
    yield made
    await made.gate.close_all()


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


async def ask(network: Network, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    raw = json.dumps(body).encode() if body is not None else b""
    reader, writer = await network.connect(HTTP_DOOR)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)
    answer = await asyncio.wait_for(reader.read(-1), 15)
    writer.close()
    head, document = answer.split(b"\r\n\r\n", 1)
    return int(head.split()[1]), json.loads(document)


async def enroll(network: Network, key: str) -> tuple[int, dict[str, object]]:
    return await ask(network, "POST", "/enroll", {"nkey": key})


def claims(jwt: object) -> dict[str, object]:
    part = str(jwt).split(".")[1]
    decoded: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


async def test_the_first_who_asks_is_the_pods_agent_and_nobody_else_gets_a_user(stage: Stage, network: Network) -> None:
    await stage.gate.open(POD, network.path)
    key = nkey()
    status, answer = await enroll(network, key)
    assert status == 200
    assert (claims(answer["jwt"])["sub"], claims(answer["jwt"])["name"]) == (key, POD)
    assert (await enroll(network, key))[0] == 200, "it died before it had its answer, and asks again"
    status, told = await enroll(network, nkey())
    assert (status, told["code"]) == (404, Code.INPUT.value)


async def test_who_the_agent_is_is_remembered_by_the_next_worker(stage: Stage, network: Network) -> None:
    await stage.gate.open(POD, network.path)
    key = nkey()
    await enroll(network, key)
    await stage.gate.close(POD)
    stage.gate = stage.another_gate()
    await stage.gate.open(POD, network.path)
    assert (await enroll(network, nkey()))[0] == 404
    assert (await enroll(network, key))[0] == 200


async def test_a_new_agent_is_expected_once(stage: Stage, network: Network) -> None:
    await stage.gate.open(POD, network.path)
    old, new = nkey(), nkey()
    await enroll(network, old)
    stage.gate.expect_agent(POD)
    stage.gate.expect_agent(POD)
    assert (await enroll(network, new))[0] == 200
    assert (await enroll(network, old))[0] == 404


async def test_of_many_who_ask_at_once_one_is_the_agent(stage: Stage, network: Network) -> None:
    await stage.gate.open(POD, network.path)
    answers = await asyncio.gather(*(enroll(network, nkey()) for _ in range(8)))
    assert sorted(status for status, _ in answers) == [200] + [404] * 7


async def test_what_is_no_key_is_refused_and_takes_nobodys_place(stage: Stage, network: Network) -> None:
    await stage.gate.open(POD, network.path)
    for wrong in ("", "U", "A" + nkey()[1:], nkey() + "A", "U" + "1" * 55):
        status, told = await enroll(network, wrong)
        assert (status, told["code"]) == (404, Code.INPUT.value)
    assert (await enroll(network, nkey()))[0] == 200


def test_a_claim_is_the_first_texts_whole_whoever_else_comes(tmp_path: Path) -> None:
    place = tmp_path / "pod" / "enrolled"
    assert _claim(place, "first") == "first"
    assert _claim(place, "second") == "first"
    assert _claim(place, "first") == "first"
    assert [path.name for path in place.parent.iterdir()] == ["enrolled"]
    assert place.stat().st_mode & 0o777 == 0o600


async def test_the_proposal_is_the_bundle_of_the_container_that_this_pod_asked_for(
    stage: Stage, network: Network, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text('{"process": {"args": ["redis"]}}')
    await stage.request(POD, APP, bundle)
    await stage.gate.open(POD, network.path)
    with Network() as elsewhere:
        await stage.gate.open(OTHER, elsewhere.path)
        assert await ask(network, "GET", f"/containers/{APP}/process") == (200, {"process": {"args": ["redis"]}})
        status, told = await ask(elsewhere, "GET", f"/containers/{APP}/process")
        assert (status, told["code"]) == (404, Code.NOT_FOUND.value)
    status, told = await ask(network, "GET", "/containers/another/process")
    assert (status, told["code"]) == (404, Code.NOT_FOUND.value)


@pytest.mark.parametrize("text", [None, b"", b"{", b"[]", b"\xff", b"[" * 100_000])
async def test_a_bundle_that_cannot_be_read_is_told(
    stage: Stage, network: Network, tmp_path: Path, text: bytes | None
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    if text is not None:
        (bundle / "config.json").write_bytes(text)
    await stage.request(POD, APP, bundle)
    await stage.gate.open(POD, network.path)
    status, told = await ask(network, "GET", f"/containers/{APP}/process")
    assert (status, told["code"]) == (404, Code.RUNTIME.value)


async def test_a_bus_that_is_away_is_told_as_worth_asking_again(stage: Stage, network: Network) -> None:
    await stage.gate.open(POD, network.path)
    await stage.bus.close()
    status, told = await ask(network, "GET", f"/containers/{APP}/process")
    assert (status, told["code"]) == (503, Code.BUS_AWAY.value)


async def test_the_bus_door_leads_to_the_buss_own_address(stage: Stage, network: Network) -> None:
    await stage.gate.open(POD, network.path)
    reader, writer = await network.connect(BUS_DOOR)
    assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"INFO {")
    writer.close()


async def test_opening_and_closing_may_be_repeated(stage: Stage, network: Network) -> None:
    await asyncio.gather(*(stage.gate.open(POD, network.path) for _ in range(3)))
    await stage.gate.close("nobody")
    await asyncio.gather(stage.gate.close(POD), stage.gate.close(POD))
    with pytest.raises(ConnectionRefusedError):
        network.dial(HTTP_DOOR)
    await stage.gate.open(POD, network.path)
    await asyncio.gather(stage.gate.close(POD), stage.gate.open(POD, network.path))
    await stage.gate.open(POD, network.path)
    assert (await enroll(network, nkey()))[0] == 200


async def test_a_stopping_worker_closes_every_pods_doors(stage: Stage, network: Network) -> None:
    with Network() as other:
        await stage.gate.open(POD, network.path)
        await stage.gate.open(OTHER, other.path)
        await stage.gate.close_all()
        for left in (network, other):
            with pytest.raises(ConnectionRefusedError):
                left.dial(HTTP_DOOR)


@pytest.mark.parametrize("netns", ["/run/netns/absent", "", "/etc/hostname", "\0"])
async def test_a_network_that_is_gone_is_a_fault(stage: Stage, netns: str) -> None:
    with pytest.raises(Permanent) as raised:
        await stage.gate.open(POD, netns)
    assert raised.value.code is Code.AGENT_NOT_STARTED
    assert raised.value.diagnosis.got


async def test_a_port_that_a_workload_took_is_a_fault_and_once_it_is_free_the_doors_open(
    stage: Stage, network: Network
) -> None:
    taken = network.inside(lambda: socket.create_server(("127.0.0.1", HTTP_DOOR)))
    with taken, pytest.raises(Permanent) as raised:
        await stage.gate.open(POD, network.path)
    assert raised.value.code is Code.AGENT_NOT_STARTED
    await stage.gate.open(POD, network.path)
    assert (await enroll(network, nkey()))[0] == 200
