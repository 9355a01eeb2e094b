"""A node's configuration and its directories.

Zone: host. May import: `orchestrator.{bus,faults}`, the standard library.

`node.toml`, shared by the host worker, the shim and the snapshotter:

    node = "node-a"                       # one token of a bus subject
    run_dir = "/run/enclave-cc"           # short: Unix sockets live here
    state_dir = "/var/lib/enclave-cc"     # sealed stores
    runc = "/usr/sbin/runc"
    [bus]
    url = "tls://127.0.0.1:4222"
    ca = "/etc/enclave-cc/bus-ca.pem"
    [credentials]                         # NATS credentials files, one a role
    worker = "..."  shim = "..."
    agent_signer = "..."                  # the account's scoped signing key: makes a user for each pod's agent
    [enclave]
    agent_bundle = "..."  boot_bundle = "..."  libos = "sim"  socket = "..."  control = "..."  debug = false
    init_data = "..."                     # the owner's init-data TOML for this node's pods
    reachable = ["127.0.0.1:5000", ...]   # host:port that a pod's agent may reach through its door
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.bus import Credentials
from orchestrator.bus.subjects import token
from orchestrator.faults import Code, Permanent

ENVIRONMENT: Final = "ENCLAVE_CC_NODE_CONFIG"
DEFAULT_PATH: Final = Path("/etc/enclave-cc/node.toml")


@dataclass(frozen=True, slots=True)
class Enclaves:
    """What enclaves this node starts, and how."""

    agent_bundle: Path
    boot_bundle: Path
    libos: str
    socket: Path
    control: Path
    debug: bool
    init_data: Path
    reachable: frozenset[str]


@dataclass(frozen=True, slots=True)
class Node:
    """The parsed `node.toml`."""

    name: str
    run_dir: Path
    state_dir: Path
    runc: str
    bus_url: str
    bus_ca: Path
    credentials: dict[str, Path]
    enclaves: Enclaves

    def credentials_of(self, role: str) -> Credentials:
        """How `role` ("worker", "shim") enters the bus."""
        if role not in self.credentials:
            raise _invalid(f"credentials.{role}", "nothing")
        return Credentials(
            self.bus_url, self.bus_ca.read_text(), file=str(self.credentials[role]), inbox=f"_INBOX_{role}"
        )

    def pod_dir(self, pod: str) -> Path:
        """Where a pod's small run-time files lie; gone with the pod."""
        return self.run_dir / "pods" / pod

    def agent_log(self, pod: str) -> Path:
        """What a pod's agent wrote; kept after a failed launch, for whoever asks why."""
        return self.state_dir / "agent-logs" / f"{pod}.log"

    def store_dir(self, pod: str) -> Path:
        """Where a pod's agent writes its sealed stores; gone with the pod."""
        return self.state_dir / "stores" / pod


def load(path: Path | None = None) -> Node:
    """Read `path`, or what the environment names, or the default. Raises Permanent(INPUT)."""
    path = path or Path(os.environ.get(ENVIRONMENT, DEFAULT_PATH))
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Permanent(
            Code.INPUT,
            f"the node's configuration {path} cannot be read",
            expected="a TOML file",
            got=str(error),
            advice=f"set {ENVIRONMENT}, or run `enclave-cc up`, which writes one",
        ) from error
    return _parse(document)


def _parse(document: dict[str, Any]) -> Node:
    bus, enclave = _table(document, "bus"), _table(document, "enclave")
    credentials = _table(document, "credentials")
    return Node(
        name=token("node name", _text(document, "node")),
        run_dir=Path(_text(document, "run_dir")),
        state_dir=Path(_text(document, "state_dir")),
        runc=_text(document, "runc"),
        bus_url=_text(bus, "url"),
        bus_ca=Path(_text(bus, "ca")),
        credentials={role: Path(_text(credentials, role)) for role in credentials},
        enclaves=Enclaves(
            agent_bundle=Path(_text(enclave, "agent_bundle")),
            boot_bundle=Path(_text(enclave, "boot_bundle")),
            libos=_text(enclave, "libos"),
            socket=Path(_text(enclave, "socket")),
            control=Path(_text(enclave, "control")),
            debug=enclave.get("debug") is True,
            init_data=Path(_text(enclave, "init_data")),
            reachable=frozenset(str(entry) for entry in enclave.get("reachable", ())),
        ),
    )


def _table(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise _invalid(f"[{name}]", repr(value))
    return value


def _text(table: dict[str, Any], name: str) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value:
        raise _invalid(name, repr(value))
    return value


def _invalid(name: str, got: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        f"the node's configuration lacks {name}",
        expected=f"a value for {name}",
        got=got,
        advice="see the head of workers/host/node.py for the file's form",
    )
