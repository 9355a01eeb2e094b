"""A simulated node in a short folder, and two payloads."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.payload import make_payload
from tests.simulators.machine_room import CONFIG_1, Room


@pytest.fixture(scope="module")
def payloads() -> Iterator[tuple[Path, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="ecc-"))
    yield make_payload(folder / "one", "1", bundles=False), make_payload(folder / "two", "2", bundles=False)
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ecc-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def room(folder: Path) -> Iterator[Room]:
    """Under containerd 1.6, with an administrator's configuration."""
    made = Room(folder, "1.6.20", CONFIG_1)
    with made.sockets():
        yield made
