"""A node's configuration and its directories.

Zone: host. May import: `workers.host.node_file`, `orchestrator.{bus,events,faults}`, the standard library.

`node.toml`, shared by the host worker, the shim and the snapshotter; a member that it does not have is refused, and
every path is absolute:

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
    [orders]                              # optional; without it nobody gives orders about this node's launches
    operators = ["..."]                   # Ed25519 public keys, hex: who may resume and fork them
    hold_failed_seconds = 0               # how long what failed is kept for that; a pod may ask for another time
    [enclave]
    agent_bundle = "..."  boot_bundle = "..."  libos = "sim"  socket = "..."  control = "..."  debug = false
    init_data = "..."                     # the owner's init-data TOML for this node's pods
    reachable = ["127.0.0.1:5000", ...]   # host:port that a pod's agent may reach through its door
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.bus import Credentials
from orchestrator.bus.subjects import token
from orchestrator.events import MAX_HOLD_SECONDS
from orchestrator.faults import Code, Permanent
from workers.host import node_file

ENVIRONMENT: Final = node_file.ENVIRONMENT
DEFAULT_PATH: Final = node_file.DEFAULT_PATH
LIBOSES: Final = ("sim",)
"""What can run enclaves here. A name that is not one of them must not end up as a simulation."""

_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_AUTHORITY: Final = re.compile(r"[A-Za-z0-9.-]{1,253}:([1-9][0-9]{0,4})", re.ASCII)


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
    operators: tuple[bytes, ...]
    hold_failed_seconds: int
    bus_url: str
    bus_ca: Path
    credentials: dict[str, Path]
    enclaves: Enclaves

    def credentials_of(self, role: str) -> Credentials:
        """How `role` ("worker", "shim") enters the bus. Raises Permanent(INPUT)."""
        if role not in self.credentials:
            raise _invalid(f"credentials.{role}", "the path of a credentials file", "nothing")
        try:
            authority = self.bus_ca.read_text()
        except (OSError, ValueError) as error:
            raise _invalid("bus.ca", "the path of a certificate in PEM", str(error)) from error
        return Credentials(self.bus_url, authority, file=str(self.credentials[role]), inbox=f"_INBOX_{role}")

    @property
    def shims(self) -> Path:
        """The socket at which pods' shims ask the worker."""
        return self.run_dir / node_file.SHIMS

    def pod_dir(self, pod: str) -> Path:
        """Where a pod's small run-time files lie; gone with the pod."""
        return self.run_dir / node_file.PODS / pod

    def pinned_boot_bundle(self, pod: str) -> Path:
        """A link to the boot bundle of the payload that the pod's agent came from; gone with the pod."""
        return self.pod_dir(pod) / node_file.BOOT_BUNDLE

    def boot_bundle(self, pod: str) -> Path:
        """What the pod's app enclaves are made from. An agent knows the one boot bundle that it was released with: a
        pod that outlives an upgrade of the node keeps it.
        """
        pinned = self.pinned_boot_bundle(pod)
        return pinned.readlink() if pinned.exists() else self.enclaves.boot_bundle

    def agent_log(self, pod: str) -> Path:
        """What a pod's agent wrote; kept after a failed launch, for whoever asks why."""
        return self.state_dir / "agent-logs" / f"{pod}.log"

    def store_dir(self, pod: str) -> Path:
        """Where a pod's agent writes its sealed stores; gone with the pod."""
        return self.state_dir / "stores" / pod


def load(path: Path | None = None) -> Node:
    """Read `path`, or what the environment names, or the default. Raises Permanent(INPUT)."""
    return _parse(node_file.read(path))


def _parse(document: Mapping[str, Any]) -> Node:
    top = _Table("", document, ("node", "run_dir", "state_dir", "runc", "bus", "credentials", "orders", "enclave"))
    given = ("operators", "hold_failed_seconds")
    orders = top.table("orders", given) if "orders" in document else _Table("orders", {}, given)
    bus = top.table("bus", ("url", "ca"))
    credentials = top.table("credentials")
    enclave = top.table(
        "enclave",
        ("agent_bundle", "boot_bundle", "libos", "socket", "control", "debug", "init_data", "reachable"),
    )
    return Node(
        name=token("node name", top.text("node")),
        run_dir=top.path("run_dir"),
        state_dir=top.path("state_dir"),
        runc=top.text("runc"),
        operators=orders.keys("operators"),
        hold_failed_seconds=orders.seconds("hold_failed_seconds"),
        bus_url=bus.text("url"),
        bus_ca=bus.path("ca"),
        credentials={role: credentials.path(role) for role in credentials.members},
        enclaves=Enclaves(
            agent_bundle=enclave.path("agent_bundle"),
            boot_bundle=enclave.path("boot_bundle"),
            libos=enclave.one_of("libos", LIBOSES),
            socket=enclave.path("socket"),
            control=enclave.path("control"),
            debug=enclave.flag("debug"),
            init_data=enclave.path("init_data"),
            reachable=enclave.authorities("reachable"),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of the file, each of whose members is read by its kind. Every method raises Permanent(INPUT)."""

    name: str
    members: Mapping[str, Any]
    known: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.members) - set(self.known)) if self.known else []
        if unknown:
            raise _invalid(self._place(unknown[0]), f"one of {', '.join(self.known)}", "a member that nobody reads")

    def table(self, name: str, known: tuple[str, ...] = ()) -> _Table:
        value = self.members.get(name)
        if not isinstance(value, dict):
            raise _invalid(f"[{name}]", "a table", repr(value)[:200])
        return _Table(name, value, known)

    def text(self, name: str) -> str:
        value = self.members.get(name)
        if not isinstance(value, str) or not value or "\0" in value:
            raise self._wrong(name, "a text")
        return value

    def path(self, name: str) -> Path:
        path = Path(self.text(name))
        if not path.is_absolute():
            raise self._wrong(name, "an absolute path")
        return path

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.text(name)
        if value not in choices:
            raise self._wrong(name, f"one of {', '.join(choices)}")
        return value

    def flag(self, name: str) -> bool:
        value = self.members.get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def authorities(self, name: str) -> frozenset[str]:
        value = self.members.get(name, [])
        if not isinstance(value, list) or not all(_is_authority(entry) for entry in value):
            raise self._wrong(name, "an array of host:port")
        return frozenset(value)

    def keys(self, name: str) -> tuple[bytes, ...]:
        value = self.members.get(name, [])
        if not isinstance(value, list) or not all(isinstance(key, str) and _KEY.fullmatch(key) for key in value):
            raise self._wrong(name, "an array of Ed25519 public keys, 64 lower-case hexadecimal digits each")
        return tuple(bytes.fromhex(key) for key in value)

    def seconds(self, name: str) -> int:
        value = self.members.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_HOLD_SECONDS:
            raise self._wrong(name, f"whole seconds up to {MAX_HOLD_SECONDS}")
        return value

    def _place(self, name: str) -> str:
        return f"{self.name}.{name}" if self.name else name

    def _wrong(self, name: str, expected: str) -> Permanent:
        return _invalid(self._place(name), expected, repr(self.members.get(name))[:200])


def _is_authority(entry: object) -> bool:
    match = _AUTHORITY.fullmatch(entry) if isinstance(entry, str) else None
    return match is not None and int(match[1]) <= 65535


def _invalid(name: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        f"the node's configuration cannot be used for its {name}",
        expected=expected,
        got=got,
        advice="see the head of workers/host/node.py for the file's form",
    )
