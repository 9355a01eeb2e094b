"""The owner's launch policy: fetched from a real broker when it is needed, once, and held to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orchestrator.faults import Code, Permanent
from schemas.sgx import ReportBody
from tests.network import Network, in_network
from tests.simulators.direct_tee import DirectTee
from tests.simulators.lying_kbs import Lie, LyingKbs
from tests.unit.enclave.pods import BOOT, POLICY_URI, STRANGER, AgentPod, launch_policy
from workers.enclave.kbs import KbsClient
from workers.enclave.policy_cache import LaunchPolicies


@contextmanager
def counted(pod: AgentPod) -> Iterator[tuple[LaunchPolicies, LyingKbs]]:
    """Policies through a front that counts what the broker is asked, and can lie."""
    config = pod.broker.config
    front = LyingKbs(pod.broker.url, pod.broker.ca_pem, config.tls_certificate, config.tls_key, lie=Lie.NONE)
    with front:
        client = KbsClient(front.url, pod.broker.ca_pem, pod.tee, None, None)
        yield LaunchPolicies(client, POLICY_URI, debug=False), front
        client.close()


def asked(front: LyingKbs) -> int:
    return sum("launch-policy" in request for request in front.requests)


def body(tee: DirectTee) -> ReportBody:
    return tee.report(tee.my_target_info(), b"").body


@in_network
async def test_it_is_fetched_once_whoever_asks(pod: AgentPod, network: Network) -> None:
    with counted(pod) as (policies, front):
        assert asked(front) == 0
        found = await asyncio.gather(*(policies.get() for _ in range(5)))
        assert all(policy is found[0] for policy in found)
        assert BOOT.hex() in found[0].boot_measurements
        assert asked(front) == 1


@in_network
async def test_a_broker_that_is_away_for_a_moment_is_asked_again(pod: AgentPod, network: Network) -> None:
    with counted(pod) as (policies, front):
        front.lie = Lie.OVERLOADED
        getting = asyncio.create_task(policies.get())
        await asyncio.sleep(0.3)
        assert not getting.done()
        front.lie = Lie.NONE
        assert (await asyncio.wait_for(getting, 10)).boot_measurements


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b'{"version": 2}', b'{"version": 1, "rules": []}'])
@in_network
async def test_a_document_that_is_none_is_refused_until_the_owner_mends_it(
    pod: AgentPod, network: Network, raw: bytes
) -> None:
    pod.put(POLICY_URI, raw)
    policies = pod.policies()
    with pytest.raises(Permanent) as raised:
        await policies.get()
    assert raised.value.code is Code.CONFIG_POLICY
    pod.put(POLICY_URI, launch_policy())
    assert (await policies.get()).boot_measurements


@in_network
async def test_a_denied_policy_is_a_fault_and_not_an_empty_one(pod: AgentPod, network: Network) -> None:
    with counted(pod) as (policies, front):
        front.lie = Lie.DENY
        with pytest.raises(Permanent) as raised:
            await policies.get()
        assert raised.value.code is Code.KEY_DENIED


@in_network
async def test_it_says_which_app_enclaves_may_be_talked_to(pod: AgentPod, network: Network) -> None:
    policies = pod.policies()
    with pytest.raises(Permanent):
        policies.judge(body(pod.boot()))  # before it is there, nobody may
    await policies.get()
    policies.judge(body(pod.boot()))
    for tee in (pod.boot(STRANGER), pod.boot(debug=True)):
        with pytest.raises(Permanent) as raised:
            policies.judge(body(tee))
        assert raised.value.code in (Code.CONFIG_APP_MEASUREMENT, Code.CONFIG_LOCAL_ATTESTATION)
    debuggable = pod.policies(debug=True)
    await debuggable.get()
    debuggable.judge(body(pod.boot(debug=True)))


@in_network
async def test_it_is_fetched_anew_only_where_it_was_and_stands_until_then(pod: AgentPod, network: Network) -> None:
    with counted(pod) as (policies, front):
        await policies.renew()
        assert asked(front) == 0
        old = await policies.get()
        pod.put(POLICY_URI, b"{}")
        with pytest.raises(Permanent):
            await policies.renew()
        assert await policies.get() is old
        pod.put(POLICY_URI, launch_policy())
        await policies.renew()
        assert asked(front) == 3


def test_a_uri_that_is_none_is_refused_at_once(pod: AgentPod) -> None:
    with pytest.raises(Permanent):
        LaunchPolicies(None, "https://elsewhere/policy", debug=False)  # type: ignore[arg-type]
