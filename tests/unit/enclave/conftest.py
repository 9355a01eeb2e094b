"""An owner's broker in a pod's network, and an agent there; one of each for a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network import Network
from tests.simulators.broker import Broker, Enclave
from tests.unit.enclave.pods import POLICY_URI, AgentPod, launch_policy
from workers.host.libos.sim.pki import SimulatedPki


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


@pytest.fixture(scope="module")
def pod_broker(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Iterator[tuple[Broker, Enclave]]:
    """A broker on the pod's loopback, which stands for the way there through the door; and an enclave it believes."""
    folder = tmp_path_factory.mktemp("owner")
    pki = SimulatedPki.create(folder / "sim")
    made, tee = Broker(folder / "owner", pki), Enclave(pki)

    def started() -> None:
        made.start()
        made.list_enclave(tee.mrenclave)

    network.inside(started)
    yield made, tee
    made.stop()


@pytest.fixture
def pod(pod_broker: tuple[Broker, Enclave], network: Network, tmp_path: Path) -> AgentPod:
    """See `tests.unit.enclave.pods`. The owner's launch policy admits its one image and its boot init."""
    made = AgentPod(*pod_broker, tmp_path, network)
    network.inside(lambda: made.put(POLICY_URI, launch_policy()))
    return made
