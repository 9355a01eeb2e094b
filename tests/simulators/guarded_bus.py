"""A bus as a node has it: TLS, an identity for each role with no more than its permissions, a node's configuration."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local import authority, bus_accounts, bus_server
from orchestrator.bus import Bus, Credentials, connect, ensure_streams
from tests.nats import free_port
from tests.simulators.history import NODE

_NODE = """
node = "{node}"
run_dir = "{folder}"
state_dir = "{folder}"
runc = "/usr/sbin/runc"
[bus]
url = "{url}"
ca = "{folder}/tls/ca.pem"
[credentials]
shim = "{folder}/bus/shim.creds"
[enclave]
agent_bundle = "/a"
boot_bundle = "/b"
libos = "sim"
socket = "/s"
control = "/c"
init_data = "/i"
"""


@dataclass(frozen=True, slots=True)
class GuardedBus:
    """A running server; `node_file` is the node.toml by which a shim finds it."""

    folder: Path
    url: str

    @property
    def node_file(self) -> Path:
        return self.folder / "node.toml"

    async def enter(self, role: str) -> Bus:
        """A connection as `role`."""
        ca_pem = (self.folder / "tls/ca.pem").read_text()
        file = str(self.folder / f"bus/{role}.creds")
        return await connect(
            Credentials(self.url, ca_pem, file=file, inbox=bus_accounts.inbox(role)), role, patience=10
        )


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[GuardedBus]:
    """A server in `folder` with the streams made."""
    port = free_port()
    files = authority.create(folder / "tls", ("bus",), ("127.0.0.1", "localhost"))["bus"]
    accounts = bus_accounts.create(folder / "bus", bus_server.DISK_BYTES)
    config = folder / "nats.conf"
    config.write_text(bus_server.configuration(accounts, files, port, folder / "jetstream"))
    bus = GuardedBus(folder, f"tls://127.0.0.1:{port}")
    bus.node_file.write_text(_NODE.format(node=NODE, folder=folder, url=bus.url))
    with (folder / "nats.log").open("w") as log:
        process = subprocess.Popen([Path(sys.executable).with_name("nats-server"), "-c", config], stderr=log)
    try:
        async with await bus.enter("admin") as admin:
            await ensure_streams(admin)
        yield bus
    finally:
        process.terminate()
        process.wait(10)
