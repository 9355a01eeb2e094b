"""Who may do what on the bus, asked of a real server."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
from typing import Any

import nats
import nats.errors
import pytest
from nats.js.api import ConsumerConfig

from deploy.local.bus_accounts import ROLES
from orchestrator.bus import Bus, Histories, WorkQueue, subjects
from orchestrator.events import Command, Fact, StopRequested
from orchestrator.faults import Permanent
from orchestrator.lifecycle import Zone
from tests.nats import settled
from workers.host.bus_users import AgentSigner, mint_agent_user

MINE, OTHER = "a" * 64, "b" * 64


async def refused(bus: Bus, subject: str, payload: bytes = b"") -> bool:
    """Whether the server lets the request pass: it drops a forbidden publication, so nobody answers."""
    try:
        await bus.client.request(subject, payload, timeout=0.3)
    except (TimeoutError, nats.errors.TimeoutError):
        return True
    except nats.errors.NoRespondersError:
        return False
    return False


async def stored(bus: Bus, subject: str) -> list[bytes]:
    return [data for _, data in await Histories(bus)._read(subject, 0, "")]


async def test_an_agent_appends_to_its_own_history_and_reads_it(server: Any) -> None:
    async with await server.agent(MINE) as agent:
        for word in (b"one", b"two"):
            await agent.stream.publish(subjects.history(MINE), word)
        read = await Histories(agent)._read(subjects.history(MINE), 0, agent.credentials.reader)
        again = await Histories(agent)._read(subjects.history(MINE), read[0][0], agent.credentials.reader)
    assert [data for _, data in read] == [b"one", b"two"]
    assert [data for _, data in again] == [b"two"]


async def test_an_agent_takes_its_own_commands_and_acknowledges_them(server: Any) -> None:
    command = Command(pod=MINE, container="", transition="attest", attempt=1, sequence=1, deadline_ns=0)
    async with await server.role("worker") as worker, await server.role("orchestrator") as orchestrator:
        await WorkQueue(worker).ensure_consumer(subjects.pod_consumer(MINE), subjects.pod_commands(MINE))
        await WorkQueue(orchestrator).publish(subjects.pod_command(MINE, "attest"), command)
        async with await server.agent(MINE) as agent, asyncio.timeout(10):
            async for delivery in WorkQueue(agent).deliveries(subjects.pod_consumer(MINE)):
                assert delivery.command == command
                await delivery.done()
                break
        left = await orchestrator.stream.stream_info(subjects.COMMANDS)
    assert left.state.messages == 0


async def test_an_agent_cannot_write_another_pods_history_nor_any_command(server: Any) -> None:
    async with await server.agent(MINE) as agent, await server.role("reader") as reader:
        assert await refused(agent, subjects.history(OTHER), b"forged")
        assert await refused(agent, f"ev.{(subjects.shard(MINE) + 1) % 8}.{MINE}", b"forged")
        assert await refused(agent, subjects.pod_command(OTHER, "attest"), b"forged")
        assert await refused(agent, subjects.pod_command(MINE, "attest"), b"forged")
        assert await refused(agent, subjects.host_command("node", "teardown", OTHER), b"forged")
        assert await stored(reader, "ev.*.*") == []


async def test_an_agent_cannot_read_another_pods_history(server: Any) -> None:
    theirs = subjects.history(OTHER)
    async with await server.agent(MINE) as agent, await server.agent(OTHER) as other:
        await other.stream.publish(theirs, b"theirs")
        own_consumer = f"$JS.API.CONSUMER.CREATE.EV.pod-{MINE}"
        asked = {"stream_name": "EV", "config": {"name": f"pod-{MINE}", "filter_subject": theirs, "ack_policy": "none"}}
        assert await refused(agent, f"{own_consumer}.{theirs}", json.dumps(asked).encode())
        assert await refused(agent, own_consumer, json.dumps(asked).encode())
        assert await refused(agent, f"$JS.API.DIRECT.GET.EV.{theirs}")
        assert await refused(agent, "$JS.API.DIRECT.GET.EV", json.dumps({"last_by_subj": theirs}).encode())
        assert await refused(agent, "$JS.API.STREAM.MSG.GET.EV", json.dumps({"seq": 1}).encode())
        assert await refused(agent, f"$JS.API.CONSUMER.MSG.NEXT.EV.pod-{OTHER}", b"1")
        # The subject names its own history, the payload another's: the server compares the two.
        answer = await agent.client.request(
            f"{own_consumer}.{subjects.history(MINE)}", json.dumps(asked).encode(), timeout=2
        )
        assert json.loads(answer.data)["error"]["err_code"] == 10131


async def test_an_agent_hears_no_other_pods_news_nor_inboxes(server: Any) -> None:
    heard: list[bytes] = []

    async def hear(message: Any) -> None:
        heard.append(message.data)

    async with await server.agent(MINE) as agent, await server.agent(OTHER) as other:
        for subject in (subjects.history(OTHER), "ev.*.*", "cmd.>", ">", f"_INBOX_{OTHER}.>", "_INBOX_orchestrator.>"):
            await agent.client.subscribe(subject, cb=hear)
        await settled(agent.client)
        await other.stream.publish(subjects.history(OTHER), b"theirs")
        await settled(agent.client)
    assert heard == []


async def test_an_agent_cannot_create_alter_or_delete_a_stream_or_a_named_consumer(server: Any) -> None:
    async with await server.role("orchestrator") as orchestrator, await server.agent(MINE) as agent:
        dispatch = ConsumerConfig(name="dispatch", durable_name="dispatch", filter_subject="ev.*.*")
        await orchestrator.stream.add_consumer("EV", dispatch)
        altered = {"stream_name": "EV", "config": {"name": "dispatch", "filter_subject": subjects.history(MINE)}}
        for subject in (
            f"$JS.API.CONSUMER.CREATE.EV.dispatch.{subjects.history(MINE)}",
            "$JS.API.CONSUMER.DURABLE.CREATE.EV.dispatch",
            "$JS.API.CONSUMER.DELETE.EV.dispatch",
            "$JS.API.STREAM.UPDATE.EV",
            "$JS.API.STREAM.DELETE.EV",
            "$JS.API.STREAM.PURGE.EV",
            "$JS.API.STREAM.CREATE.X",
        ):
            assert await refused(agent, subject, json.dumps(altered).encode()), subject
        assert (await orchestrator.stream.consumer_info("EV", "dispatch")).config.filter_subject == "ev.*.*"


async def test_a_reply_subject_carries_no_payload_of_the_agents_choice_into_another_history(server: Any) -> None:
    """The server answers to any reply subject; all that can be made to arrive is its own acknowledgement."""
    theirs = subjects.history(OTHER)
    async with await server.agent(MINE) as agent, await server.role("reader") as reader:
        await agent.client.publish(subjects.history(MINE), b"chosen", reply=theirs)
        await settled(agent.client)
        config = ConsumerConfig(name=agent.credentials.reader, filter_subject=subjects.history(MINE))
        await agent.stream.add_consumer("EV", config)
        next_message = f"$JS.API.CONSUMER.MSG.NEXT.EV.{agent.credentials.reader}"
        await agent.client.publish(next_message, b"1", reply=theirs)
        await settled(agent.client)
        await asyncio.sleep(0.3)
        arrived = await stored(reader, theirs)
    assert all(set(json.loads(data)) == {"stream", "seq"} for data in arrived)


@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
async def test_no_role_that_runs_can_alter_delete_or_purge_a_stream(server: Any, role: str) -> None:
    async with await server.role(role) as bus:
        for verb in ("UPDATE", "DELETE", "PURGE", "RESTORE", "SNAPSHOT"):
            assert await refused(bus, f"$JS.API.STREAM.{verb}.EV", b"{}")
        assert await refused(bus, "$JS.API.STREAM.MSG.DELETE.EV", json.dumps({"seq": 1}).encode())


async def test_a_reader_reads_every_history_and_appends_to_none(server: Any) -> None:
    async with await server.agent(MINE) as agent, await server.role("reader") as reader:
        await agent.stream.publish(subjects.history(MINE), b"one")
        assert await stored(reader, "ev.*.*") == [b"one"]
        assert await refused(reader, subjects.history(MINE), b"two")


async def test_a_worker_answers_what_it_was_asked_and_says_nothing_else(server: Any) -> None:
    async def answer(asked: bytes) -> bytes:
        return asked[::-1]

    async with await server.role("worker") as worker, await server.role("shim") as shim:
        await worker.serve(subjects.host_request("node", "signal"), answer)
        await settled(worker.client)
        assert await shim.request(subjects.host_request("node", "signal"), b"abc", 2) == b"cba"
        heard = await shim.client.subscribe("_INBOX_shim.unasked")
        await settled(shim.client)
        await worker.client.publish("_INBOX_shim.unasked", b"hello")
        await settled(worker.client)
        with pytest.raises((TimeoutError, nats.errors.TimeoutError)):
            await heard.next_msg(timeout=0.3)


async def test_without_credentials_nobody_enters(server: Any) -> None:
    client = nats.NATS()
    context = ssl.create_default_context(cadata=server.ca_pem)
    with pytest.raises(nats.errors.Error):
        await client.connect(server.url, tls=context, allow_reconnect=False, max_reconnect_attempts=1)


async def test_credentials_are_for_their_owner_only(server: Any) -> None:
    for path in server.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


async def test_a_pod_id_that_would_widen_a_subject_is_refused(server: Any) -> None:
    signer = AgentSigner.load(server.folder / "agents.json")
    for pod in ("*", ">", "a.b", "", "{{name()}}"):
        with pytest.raises(Permanent, match="E-INPUT-001"):
            mint_agent_user(signer, "U" + "A" * 55, pod)


async def test_an_acknowledgement_thrown_into_another_history_leaves_it_readable(server: Any) -> None:
    async with await server.agent(MINE) as agent, await server.role("reader") as reader:
        await agent.client.publish(subjects.history(MINE), b"chosen", reply=subjects.history(OTHER))
        await settled(agent.client)
        await asyncio.sleep(0.3)
        assert len(await stored(reader, subjects.history(OTHER))) == 1
        assert (await Histories(reader).launch(OTHER)).index == 0


async def test_an_append_that_the_server_forbids_is_told_as_that(server: Any) -> None:
    fact = Fact(MINE, StopRequested("not mine to say"), Zone.HOST, "reader/test")
    async with await server.role("reader") as bus:
        with pytest.raises(Permanent, match="E-INPUT-003"):
            await Histories(bus).append(fact)
        assert await stored(bus, "ev.*.*") == []


async def test_an_operator_appends_orders_and_asks_no_queue(server: Any) -> None:
    fact = Fact(MINE, StopRequested("seen enough"), Zone.HOST, "operator/alice")
    async with await server.role("operator") as operator:
        assert await Histories(operator).append(fact) is not None
        for subject in (subjects.host_command("node", "teardown", MINE), subjects.pod_command(MINE, "attest")):
            assert await refused(operator, subject, b"an order")
