"""Peers that several files ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulators.go_peer import GoPeer, build


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoPeer]:
    """Go's sumdb packages, built once."""
    with GoPeer(build(tmp_path_factory.mktemp("go"))) as peer:
        yield peer
