"""One bundle and one simulated CPU for all tests of a session that can share them, and enclaves on demand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.simulators.enclave_bundle import build_bundle
from tests.simulators.enclaves import Container, CpuProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from workers.host.libos.backend import MountedBundle


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def cpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CpuProcess]:
    running = CpuProcess(tmp_path_factory.mktemp("cpu"))
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def bundle(cpu: CpuProcess, image: Path) -> MountedBundle:
    return asyncio.run(cpu.libos.prepare(image))


@pytest.fixture
def container(cpu: CpuProcess, bundle: MountedBundle, tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """`container(argv=..., env=...)`: a container of the bundle, created and not yet entered."""
    made: list[Container] = []

    def make(**differences: object) -> Container:
        fresh = Container(**{"cpu": cpu, "bundle": bundle, "directory": tmp_path, **differences})
        made.append(fresh)
        fresh.create()
        return fresh

    yield make
    for old in made:
        old.remove()


@pytest.fixture
def enclave(container: Callable[..., Container]) -> Callable[..., Container]:
    """`enclave(...)`: a running enclave; `config_id` and `debug` go to EINIT, the rest to the container."""

    def make(*, config_id: bytes = bytes(64), debug: bool = False, **differences: object) -> Container:
        fresh = container(**differences)
        fresh.enter(config_id, debug=debug)
        fresh.start()
        return fresh

    return make
