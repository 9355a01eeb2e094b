"""An agent and a boot init on one machine, and a machine elsewhere."""

from __future__ import annotations

import pytest

from tests.simulators.direct_tee import DirectTee, machine
from workers.enclave.tee.judge import OnlyMeasurements

AGENT, BOOT = b"a" * 32, b"b" * 32


@pytest.fixture
def cpu():
    return machine()


@pytest.fixture
def agent(cpu):
    return DirectTee(cpu, AGENT)


@pytest.fixture
def boot(cpu):
    return DirectTee(cpu, BOOT)


@pytest.fixture
def wants_agent():
    return OnlyMeasurements(frozenset({AGENT}))


@pytest.fixture
def wants_boot():
    return OnlyMeasurements(frozenset({BOOT}))
