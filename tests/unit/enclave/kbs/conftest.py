"""An owner with a running broker, one for the whole folder: these tests are about the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulators.broker import Broker, Enclave
from tests.simulators.lying_kbs import Lie, LyingKbs
from workers.enclave.kbs import ResourceUri
from workers.host.libos.sim.pki import SimulatedPki

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = b"the key of a layer"
URI = ResourceUri.parse("kbs:///default/image-key/redis")


@pytest.fixture(scope="package")
def pki(tmp_path_factory: pytest.TempPathFactory) -> SimulatedPki:
    return SimulatedPki.create(tmp_path_factory.mktemp("pki") / "sim")


@pytest.fixture(scope="package")
def tee(pki: SimulatedPki) -> Enclave:
    """A good enclave, listed at `broker`."""
    return Enclave(pki)


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory, pki: SimulatedPki, tee: Enclave) -> Iterator[Broker]:
    """Has one resource, `URI`, and lists `tee`."""
    with Broker(tmp_path_factory.mktemp("broker") / "owner", pki) as running:
        running.list_enclave(tee.mrenclave)
        admin = running.admin()
        admin.put_resource(URI, SECRET)
        admin.close()
        yield running


@pytest.fixture
def liar(broker: Broker) -> Iterator[LyingKbs]:
    """Honest at first."""
    front = LyingKbs(broker.url, broker.ca_pem, broker.config.tls_certificate, broker.config.tls_key, lie=Lie.NONE)
    with front:
        yield front
