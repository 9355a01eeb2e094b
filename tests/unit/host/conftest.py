"""For tests of the host worker: a node's configuration, real containers by runc and conmon, a real bus."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from deploy.local import bus_accounts
from orchestrator.bus import Bus
from tests.busybox import Bundles
from tests.machine import processes_naming
from tests.nats import NatsServer, running
from tests.network import Network
from tests.simulators.enclaves import CpuProcess
from tests.unit.host.pods import HostPod, busybox_image
from workers.host import node as configuration
from workers.host.node import Node
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


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
async def bus(server: NatsServer) -> AsyncIterator[Bus]:
    async with await server.connect() as bus:
        yield bus


@pytest.fixture
def node(tmp_path: Path, run_dir: Path) -> Callable[..., Node]:
    """`node(bus_url, **enclave)`: a node's configuration whose files exist, as far as these tests need them."""

    def made(bus_url: str = "nats://127.0.0.1:1", **enclave: str) -> Node:
        accounts = tmp_path / "accounts"
        if not accounts.exists():
            bus_accounts.create(accounts, 1 << 30)
        (tmp_path / "ca.pem").write_text("the bus's authority\n")
        (tmp_path / "init-data.toml").write_text("the owner's word\n")
        places = ("agent_bundle", "boot_bundle", "socket", "control", "init_data")
        members = {place: str(tmp_path / place) for place in places}
        members |= {"init_data": str(tmp_path / "init-data.toml"), "libos": "sim"} | enclave
        file = tmp_path / "node.toml"
        file.write_text(
            f"""
            node = "node-a"
            run_dir = "{run_dir}"
            state_dir = "{tmp_path / "state"}"
            runc = "{BINARY}"
            [bus]
            url = "{bus_url}"
            ca = "{tmp_path / "ca.pem"}"
            [credentials]
            agent_signer = "{accounts / "agents.json"}"
            [enclave]
            """
            + "".join(f'{name} = "{value}"\n' for name, value in members.items())
        )
        return configuration.load(file)

    return made


@pytest.fixture(scope="session")
def cpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CpuProcess]:
    """The simulated CPU's daemon."""
    machine = CpuProcess(tmp_path_factory.mktemp("cpu"))
    machine.start()
    yield machine
    assert machine.stop() == 0


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Bundles of an agent that says that it is there, and of a boot init."""
    folder = tmp_path_factory.mktemp("images")
    says = "echo the agent is up; echo and warns >&2; exec /bin/busybox sleep 1000"
    return {
        "agent_bundle": str(busybox_image(folder, "agent", says)),
        "boot_bundle": str(busybox_image(folder, "boot", "echo boot init is up; exec /bin/busybox sleep 1001")),
    }


@pytest.fixture
async def pod(
    node: Callable[..., Node], runc: Runc, cpu: CpuProcess, bus: Bus, bundles: Bundles, images: dict[str, str]
) -> AsyncIterator[HostPod]:
    """A pod whose sandbox is there; see `tests.unit.host.pods`."""
    places = {"socket": str(cpu.socket), "control": str(cpu.control)}
    with Network() as network:
        made = HostPod(node(bus.credentials.url, **images, **places), runc, cpu, bus, bundles, network)
        yield made
        await made.gate.close_all()
