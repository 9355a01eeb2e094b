"""attest: a real broker believes the agent, and the fact that comes of it stands by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.events import event_key_binding
from orchestrator.faults import Code, Fault, Permanent, Temporary
from schemas.sgx import ReportBody
from tests.network import Network, in_network
from tests.simulators.broker import MEASUREMENT, Enclave
from tests.unit.enclave.pods import POD, AgentPod, AgentTee, command, nothing_known
from workers.enclave.attest import Attest
from workers.enclave.event_key import EventKey
from workers.enclave.init_data import InitData
from workers.enclave.kbs import KbsClient
from workers.host.libos.sim.pki import SimulatedPki

HERE = InitData("", "https://broker.example", "", "", "", "")


def step(pod: AgentPod, enclave: Enclave | None = None, key: EventKey | None = None, url: str = "") -> Attest:
    tee = AgentTee(pod.cpu, enclave or pod.tee)
    kbs = KbsClient(url or pod.broker.url, pod.broker.ca_pem, tee, None, None)
    return Attest(tee, lambda: kbs, HERE, key or EventKey())


@in_network
async def test_the_fact_binds_the_event_key_to_the_pod_by_a_quote_of_its_own(pod: AgentPod, network: Network) -> None:
    key = EventKey()
    fact = await step(pod, key=key)(command("attest"), nothing_known())
    report = ReportBody.parse(fact.quote[48:432])
    assert report.report_data == event_key_binding(POD, key.public).ljust(64, b"\0")
    assert fact.event_public_key == key.public
    assert fact.measurement == report.mrenclave.hex() == MEASUREMENT.hex()
    assert (fact.simulated, fact.tcb_status, fact.kbs) == (True, "UpToDate", "https://broker.example")
    assert len(bytes.fromhex(fact.token_sha256)) == 32


@in_network
async def test_attesting_again_is_another_token_for_the_same_key(pod: AgentPod, network: Network) -> None:
    key = EventKey()
    again = step(pod, key=key)
    first, second = [await again(command("attest", attempt=n), nothing_known()) for n in (1, 2)]
    assert first.event_public_key == second.event_public_key
    assert first.token_sha256 != second.token_sha256


@in_network
async def test_whom_the_owner_did_not_list_gets_no_fact(pod: AgentPod, network: Network) -> None:
    with pytest.raises(Permanent) as raised:
        await step(pod, replace(pod.tee, mrenclave=b"?" * 32))(command("attest"), nothing_known())
    assert raised.value.code is Code.ATTEST_NOT_LISTED


@in_network
async def test_a_quote_of_another_root_is_refused(pod: AgentPod, network: Network) -> None:
    stranger = SimulatedPki.create(pod.folder / "other-root")
    with pytest.raises(Fault) as raised:
        await step(pod, replace(pod.tee, pki=stranger))(command("attest"), nothing_known())
    assert raised.value.code is Code.ATTEST_QUOTE


@in_network
async def test_a_broker_that_is_away_is_worth_another_attempt(pod: AgentPod, network: Network) -> None:
    with pytest.raises(Temporary) as raised:
        await step(pod, url="https://127.0.0.1:1")(command("attest"), nothing_known())
    assert raised.value.code is Code.ATTEST_KBS_AWAY


@in_network
async def test_the_loop_goes_on_meanwhile(pod: AgentPod, network: Network) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    await step(pod)(command("attest"), nothing_known())
    turning.cancel()
    assert turns > 20
