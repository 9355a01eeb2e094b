"""A broker without its web server: calls go straight to the dispatcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.kbs.server import broker
from tests.simulators.broker import Broker
from tests.simulators.kbs_caller import Caller
from workers.host.libos.sim.pki import SimulatedPki

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.kbs.config import KbsConfig


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> SimulatedPki:
    return SimulatedPki.create(tmp_path_factory.mktemp("pki") / "sim")


@pytest.fixture
def config(tmp_path: Path, pki: SimulatedPki) -> KbsConfig:
    """A whole owner that trusts `pki`; nothing is listed yet."""
    return Broker(tmp_path / "owner", pki).config


@pytest.fixture
def caller(config: KbsConfig) -> Caller:
    return Caller(broker(config), (config.state.parent / "admin.key").read_bytes())
