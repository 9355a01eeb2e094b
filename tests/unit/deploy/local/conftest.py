"""A real nats-server in operator mode, with the identities that a stack makes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import nkeys
import pytest

from deploy.local import authority, bus_accounts, bus_server
from orchestrator.bus import Bus, Credentials, connect, ensure_streams
from workers.host.bus_users import AgentSigner, agent_inbox, agent_reader, mint_agent_user


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    ca_pem: str
    folder: Path

    async def role(self, role: str) -> Bus:
        return await connect(self.credentials(role), role, patience=5)

    def credentials(self, role: str) -> Credentials:
        return Credentials(
            self.url, self.ca_pem, file=str(self.folder / f"{role}.creds"), inbox=bus_accounts.inbox(role)
        )

    async def agent(self, pod: str) -> Bus:
        seed = nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)))
        jwt = mint_agent_user(AgentSigner.load(self.folder / "agents.json"), seed.public_key.decode(), pod)
        credentials = Credentials(
            self.url,
            self.ca_pem,
            jwt=jwt,
            sign=lambda nonce: base64.b64encode(seed.sign(nonce.encode())),
            inbox=agent_inbox(pod),
            reader=agent_reader(pod),
        )
        return await connect(credentials, pod, patience=5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    port = free_port()
    files = authority.create(tmp_path / "tls", ("bus",), ("127.0.0.1", "localhost"))["bus"]
    accounts = bus_accounts.create(tmp_path / "bus", bus_server.DISK_BYTES)
    config = tmp_path / "nats.conf"
    config.write_text(bus_server.configuration(accounts, files, port, tmp_path / "jetstream"))
    binary = Path(sys.executable).with_name("nats-server")
    process = subprocess.Popen([binary, "-c", config], stderr=(tmp_path / "nats.log").open("w"))
    try:
        running = Server(f"tls://127.0.0.1:{port}", (tmp_path / "tls/ca.pem").read_text(), tmp_path / "bus")
        async with await running.role("admin") as admin:
            await ensure_streams(admin)
        yield running
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 10)
