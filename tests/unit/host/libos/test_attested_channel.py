"""Two real enclaves attest each other on one machine, through the simulated CPU."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.faults import Code
from tests.simulators.enclave_bundle import build_bundle
from tests.simulators.enclaves import until


@pytest.fixture(scope="session")
def boot_bundle(cpu, tmp_path_factory):
    """Another image with the same program, so another measurement: the boot init beside the agent."""
    image = build_bundle(tmp_path_factory.mktemp("boot"), marker="boot")
    return asyncio.run(cpu.libos.prepare(image))


def meet(agent, boot, shared, *, agent_lists, boot_lists):
    """Run both ends of a channel over a socket that both containers see."""
    with ThreadPoolExecutor() as pool:
        accepting = pool.submit(
            agent.ask, "accept", at="/run/shared/la", say="key", listed=[m.hex() for m in agent_lists]
        )
        until((shared / "la").exists, "the agent listens")
        connecting = boot.ask("connect", at="/run/shared/la", say="ready", listed=[m.hex() for m in boot_lists])
        return accepting.result(30), connecting


def test_agent_and_boot_init_speak_over_an_attested_channel(enclave, bundle, boot_bundle, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    agent = enclave(binds={"/run/shared": shared})
    boot = enclave(bundle=boot_bundle, binds={"/run/shared": shared})
    heard_by_agent, heard_by_boot = meet(
        agent,
        boot,
        shared,
        agent_lists=[boot_bundle.expected_measurement],
        boot_lists=[bundle.expected_measurement],
    )
    assert heard_by_agent == {"heard": "ready", "peer": boot_bundle.expected_measurement.hex()}
    assert heard_by_boot == {"heard": "key", "peer": bundle.expected_measurement.hex()}


def test_an_agent_refuses_an_enclave_that_is_not_its_boot_init(enclave, bundle, boot_bundle, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    agent, impostor = (enclave(binds={"/run/shared": shared}) for _ in range(2))
    refused, hung_up = meet(
        agent,
        impostor,
        shared,
        agent_lists=[boot_bundle.expected_measurement],
        boot_lists=[bundle.expected_measurement],
    )
    assert refused["code"] == Code.CONFIG_APP_MEASUREMENT
    assert refused["got"] == bundle.expected_measurement.hex()
    assert hung_up["code"] == Code.CONFIG_LOCAL_ATTESTATION
