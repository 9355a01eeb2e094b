"""The bus on a nats-server of somebody else's building: the project's own container image, where an engine answers."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer

from orchestrator.bus import Credentials, Histories, connect, ensure_streams
from orchestrator.events import Fact, PodRequested, StopRequested
from orchestrator.lifecycle import State, Zone

IMAGE = "nats:2.12-alpine"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    try:
        docker.from_env().ping()
    except DockerException:
        pytest.skip("no container engine answers; tests/unit/orchestrator runs the same on a native server")
    with DockerContainer(IMAGE).with_command("-js").with_exposed_ports(4222) as server:
        yield f"nats://{server.get_container_host_ip()}:{server.get_exposed_port(4222)}"


async def test_a_history_is_appended_and_folded_on_the_published_server_image(url: str) -> None:
    pod = "a" * 64
    async with await connect(Credentials(url), "tests") as bus:
        await ensure_streams(bus)
        histories = Histories(bus)
        requested = PodRequested("node", "default", "name", "uid", "/bundle", "")
        await histories.append(Fact(pod, requested, Zone.HOST, "shim/node"))
        await histories.append(Fact(pod, StopRequested("enough"), Zone.HOST, "shim/node"))
        launch = await Histories(bus).launch(pod)
    assert (launch.index, launch.progress.state) == (2, State.STOPPING)
