"""Real containers for tests of the host worker: runc and conmon, in a run directory of the test's own."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.busybox import Bundles
from tests.machine import processes_naming
from workers.host.runc import Runc

BINARY = "/usr/sbin/runc"


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return Bundles(tmp_path)


@pytest.fixture
def run_dir(tmp_path: Path, bundles: Bundles) -> Iterator[Path]:
    """A node's run directory. Whatever a test left running in it is removed, whoever made it."""
    folder = tmp_path / "run"
    folder.mkdir()
    yield folder
    asyncio.run(_removed(folder))
    assert processes_naming(bundles.prefix) == []
    for controller in Path("/sys/fs/cgroup").glob("*/enclave-cc-tests"):
        subprocess.run(["rmdir", "--ignore-fail-on-non-empty", controller], check=False)


async def _removed(folder: Path) -> None:
    runc = Runc(BINARY, folder)
    left = {held.id for held in runc.held()} | {path.name for path in (folder / "runc").iterdir()}
    for id_ in left:
        await runc.discard(id_)


@pytest.fixture
def runc(run_dir: Path) -> Runc:
    return Runc(BINARY, run_dir)
