"""The bus that the chart describes, on real servers: one and three, their identities, a renewal, a lost server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import enclave_cc
from deploy.cluster.identities import Home
from deploy.local import bus_accounts
from orchestrator.audit.note import SigningKey
from orchestrator.audit.policy import Policy
from orchestrator.bus import Bus, Credentials, Histories, connect, ensure_streams, subjects
from orchestrator.bus.operator_key import OperatorKey
from orchestrator.faults import Fault, Permanent, Temporary
from tests.helm import render
from tests.nats import BINARY, free_port, until
from tests.unit.deploy.chart.conftest import TRUSTEE
from workers.host.bus_users import AgentSigner

POD = "a" * 64
SUBJECT = subjects.history(POD)


def typed(*words: str | Path) -> str:
    done = CliRunner().invoke(enclave_cc, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def unpack(made: Path, folder: Path) -> None:
    """What a kubelet mounts: a folder for each secret."""
    for item in json.loads((made / "secrets.json").read_text())["items"]:
        place = folder / item["metadata"]["name"].removeprefix("enclave-cc-")
        place.mkdir(parents=True, exist_ok=True)
        for name, content in item["data"].items():
            (place / name).write_bytes(base64.b64decode(content))


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identities") / "bus"
    typed("cluster", "identities", folder, "--server", "127.0.0.1", "--log", "cluster-1.example/audit")
    return folder


@pytest.fixture
def mounted(identities: Path, tmp_path: Path) -> Path:
    unpack(identities, tmp_path / "secrets")
    return tmp_path / "secrets"


@dataclass
class Servers:
    """So many servers, each with the configuration that the chart renders, but for its paths, ports and names."""

    folder: Path
    secrets: Path
    count: int
    ports: list[int] = field(default_factory=list)
    routes: list[int] = field(default_factory=list)
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = [free_port() for _ in range(self.count)]
        self.routes = [free_port() for _ in range(self.count)]
        chart = render(*TRUSTEE, "--set", f"bus.servers={self.count}")
        self.text = chart.one("ConfigMap", "enclave-cc-bus")["data"]["nats.conf"]

    def write(self, number: int) -> Path:
        place = self.folder / f"server-{number}"
        (place / "config").mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.secrets / "bus-server", place / "identity", dirs_exist_ok=True)
        text = self.text.replace("/etc/nats", str(place)).replace('"/data"', f'"{place}/data"')
        text = text.replace("0.0.0.0:4222", f"127.0.0.1:{self.ports[number]}")
        text = text.replace("0.0.0.0:6222", f"127.0.0.1:{self.routes[number]}")
        for other in range(self.count):
            peer = f"enclave-cc-bus-{other}.enclave-cc-bus-peers.enclave-cc-system.svc:6222"
            text = text.replace(peer, f"127.0.0.1:{self.routes[other]}")
        assert ".svc" not in text
        (place / "config/nats.conf").write_text(text)
        return place / "config/nats.conf"

    def start(self, number: int) -> None:
        config = self.write(number)
        environment = {"PATH": os.defpath, "POD_NAME": f"enclave-cc-bus-{number}"}
        with (self.folder / f"server-{number}.log").open("ab") as log:
            self.processes[number] = subprocess.Popen(
                [BINARY, "--config", config], stdout=log, stderr=log, env=environment
            )

    def kill(self, number: int) -> None:
        process = self.processes.pop(number)
        process.kill()
        process.wait()

    def credentials(self, role: str, number: int = 0, secrets: Path | None = None) -> Credentials:
        place = (secrets or self.secrets) / f"bus-{role}"
        return Credentials(
            f"tls://127.0.0.1:{self.ports[number]}",
            (place / "ca.pem").read_text(),
            file=str(place / f"{role}.creds"),
            inbox=bus_accounts.inbox(role),
        )


@contextmanager
def running(folder: Path, secrets: Path, count: int) -> Iterator[Servers]:
    servers = Servers(folder, secrets, count)
    with ExitStack() as ends:
        for number in range(count):
            servers.start(number)
        ends.callback(lambda: [servers.kill(number) for number in list(servers.processes)])
        yield servers


@asynccontextmanager
async def entered(servers: Servers, role: str, number: int = 0) -> AsyncIterator[Bus]:
    async with await connect(servers.credentials(role, number), role, patience=30) as bus:
        yield bus


async def made_streams(servers: Servers, replicas: int) -> None:
    """Servers that have just started elect a leader first."""

    async def made() -> bool:
        try:
            async with entered(servers, "admin") as bus:
                await ensure_streams(bus, replicas)
        except Fault:
            return False
        return True

    await until(made, 60)


async def history(servers: Servers, role: str, number: int = 0) -> list[bytes]:
    try:
        async with entered(servers, role, number) as bus:
            return [data for _, data in await Histories(bus).stored(POD)]
    except Temporary:
        return []


async def test_the_job_makes_the_streams_of_one_server_and_a_role_is_let_in(mounted: Path, tmp_path: Path) -> None:
    with running(tmp_path, mounted, 1) as servers:
        settings = tmp_path / "admin.toml"
        place = mounted / "bus-admin"
        settings.write_text(
            f'[bus]\nurl = "tls://127.0.0.1:{servers.ports[0]}"\nca = "{place}/ca.pem"\n'
            f'credentials = "{place}/admin.creds"\ninbox = "_INBOX_admin"\n'
        )
        said = await asyncio.to_thread(typed, "cluster", "streams", "--config", settings)
        assert said.endswith("the streams are there, for 1 replica\n")
        async with entered(servers, "reader") as bus:
            assert (await bus.stream.stream_info(subjects.EVENTS)).config.num_replicas == 1


async def test_three_servers_keep_a_fact_and_take_the_next_when_one_is_lost(mounted: Path, tmp_path: Path) -> None:
    with running(tmp_path, mounted, 3) as servers:
        await made_streams(servers, 3)
        async with entered(servers, "orchestrator") as bus:
            assert (await bus.stream.stream_info(subjects.EVENTS)).config.num_replicas == 3
            await bus.stream.publish(SUBJECT, b"one")
            led_by = (await bus.stream.stream_info(subjects.EVENTS)).cluster
        assert led_by is not None
        lost = int(str(led_by.leader).rpartition("-")[2])
        servers.kill(lost)
        other = (lost + 1) % 3

        async def appended() -> bool:
            try:
                async with entered(servers, "orchestrator", other) as bus:
                    await bus.stream.publish(SUBJECT, b"two", headers={"Nats-Msg-Id": "two"})
            except Exception:  # noqa: BLE001 - whatever the client says while another leader is chosen
                return False
            return True

        await until(appended, 60)

        async def read() -> bool:
            return await history(servers, "reader", other) == [b"one", b"two"]

        await until(read, 60)


async def test_a_renewal_keeps_histories_and_lets_nobody_of_before_in(
    identities: Path, mounted: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(identities, home)
    with running(tmp_path, mounted, 1) as servers:
        await made_streams(servers, 1)
        async with entered(servers, "orchestrator") as bus:
            await bus.stream.publish(SUBJECT, b"before")
        before = servers.credentials("reader")
        old = tmp_path / "old.creds"
        shutil.copyfile(before.file, old)
        agents = (mounted / "bus-node/agents.json").read_text()
        servers.kill(0)
        typed("cluster", "renew", home)
        unpack(home, mounted)
        servers.start(0)
        await until(lambda: _reads(servers), 30)
        with pytest.raises(Fault):
            await connect(Credentials(before.url, before.ca_pem, file=str(old), inbox=before.inbox), "old", patience=2)
        assert (mounted / "bus-node/agents.json").read_text() == agents


async def _reads(servers: Servers) -> bool:
    return await history(servers, "reader") == [b"before"]


async def test_a_copy_of_the_volume_of_a_killed_server_is_a_backup(mounted: Path, tmp_path: Path) -> None:
    with running(tmp_path, mounted, 1) as servers:
        await made_streams(servers, 1)
        async with entered(servers, "orchestrator") as bus:
            await bus.stream.publish(SUBJECT, b"before")
        servers.kill(0)
        shutil.copytree(tmp_path / "server-0/data", tmp_path / "restored/server-0/data")
    with running(tmp_path / "restored", mounted, 1) as restored:
        await until(lambda: _reads(restored), 30)


def test_new_agents_are_made_only_when_asked_for(identities: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(identities, home)
    unpack(home, tmp_path / "before")
    typed("cluster", "renew", home, "--agents")
    unpack(home, tmp_path / "after")
    before, after = (AgentSigner.load(tmp_path / when / "bus-node/agents.json") for when in ("before", "after"))
    assert before.account == after.account
    assert before.seed != after.seed
    assert Home.parse((home / "home.json").read_text()).agents == after


def test_the_files_are_their_owners_alone_and_are_never_made_over(identities: Path) -> None:
    assert identities.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in identities.iterdir()} == {0o600}
    again = CliRunner().invoke(enclave_cc, ["cluster", "identities", str(identities)])
    assert again.exit_code == 2
    assert "there is already something here" in again.output


def test_what_renews_the_rest_is_in_no_secret(identities: Path, mounted: Path) -> None:
    home = Home.parse((identities / "home.json").read_text())
    contents = [path.read_bytes() for path in mounted.rglob("*") if path.is_file()]
    for secret in (home.root.operator_seed.encode(), home.authority.key):
        assert not any(secret in content for content in contents)
    assert home.root.operator_seed not in repr(home)


def test_the_node_knows_whose_orders_count_and_the_auditor_whose_log_it_is(mounted: Path) -> None:
    operator = OperatorKey.load(mounted / "bus-operator/operator.creds").public.hex()
    assert (mounted / "bus-node/operators").read_text() == f"{operator}\n"
    key = SigningKey.parse((mounted / "audit/audit.key").read_text())
    (log,) = Policy.parse((mounted / "audit/audit.policy").read_bytes()).logs
    assert log.key == key.verifier()
    assert log.key.name == "cluster-1.example/audit"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"operator_seed": "SO"}'], ids=["nothing", "list", "empty", "part"])
def test_what_is_no_home_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(Permanent) as refused:
        Home.parse(text)
    assert "SO" not in refused.value.diagnostics()


def test_a_private_copy_is_private(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o440)
    typed("cluster", "private-copy", tmp_path / "token", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "secret\n"
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
