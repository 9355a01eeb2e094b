"""Where everything of a stack lies. Two folders: one for what lasts, one with short paths for sockets and mounts.

Zone: host. May import: the standard library, `orchestrator.faults`.
"""

from __future__ import annotations

import json
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Permanent

LONGEST_SOCKET_PATH: Final = 107
"""Bytes of `sun_path` less its closing NUL."""

ROOTS: Final = Path("/var/lib/enclave-cc/stacks")
RUNS: Final = Path("/run/enclave-cc")
DEFAULT_NAME: Final = "default"


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on 127.0.0.1, free when the stack was made."""

    bus: int
    registry: int
    kbs: int
    console: int


@dataclass(frozen=True, slots=True)
class Layout:
    """`root` keeps the data, `run` the sockets, process state and mounts. `subnet` is the pods' IPv4 /24."""

    name: str
    root: Path
    run: Path
    ports: Ports
    subnet: str

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.root / "logs"

    @property
    def ca(self) -> Path:
        """The authority of bus and registry, PEM."""
        return self.root / "tls/ca.pem"

    @property
    def client_config(self) -> Path:
        """Where `enclave-cc launches` and its kin read how to enter the bus; see orchestrator/bus/settings.py."""
        return self.root / "client.toml"

    @property
    def audit_key(self) -> Path:
        """What signs the audit log, which lies in `audit` beside it; see deploy/local/audit.py."""
        return self.root / "audit.key"

    @property
    def operator_config(self) -> Path:
        """The same for `enclave-cc resume` and its kin, which give orders."""
        return self.root / "operator.toml"

    @property
    def node_config(self) -> Path:
        """What the host worker, the shim and the snapshotter read; see workers/host/node.py."""
        return self.root / "node.toml"

    @property
    def containerd(self) -> Path:
        """containerd's socket, which a kubelet or `crictl` connects to."""
        return self.run / "containerd.sock"

    @property
    def containerd_debug(self) -> Path:
        """containerd's debugging socket, of Go's net/http/pprof."""
        return self.run / "containerd.debug.sock"

    @property
    def snapshotter(self) -> Path:
        """The snapshotter's socket."""
        return self.run / "snapshotter.sock"

    @property
    def snapshots(self) -> Path:
        """What the snapshotter keeps."""
        return self.root / "snapshots"

    @property
    def zygote(self) -> Path:
        """Where a shim's `start` finds the process that its pod's shim is forked from."""
        return self.run / "zygote.sock"

    @property
    def cpu(self) -> Path:
        """The simulated CPU's socket, bound into enclaves."""
        return self.run / "sgx.sock"

    @property
    def cpu_control(self) -> Path:
        """Where the host worker asks the simulated CPU to make enclaves."""
        return self.run / "sgx-control.sock"

    @property
    def supervisor(self) -> Path:
        """supervisord's socket."""
        return self.run / "supervisor.sock"

    @property
    def registry_host(self) -> str:
        """`host:port`, the first part of an image reference."""
        return f"127.0.0.1:{self.ports.registry}"

    @property
    def bus_url(self) -> str:
        """Where clients on this machine find the bus."""
        return f"tls://127.0.0.1:{self.ports.bus}"

    @property
    def kbs_url(self) -> str:
        """The key broker."""
        return f"https://127.0.0.1:{self.ports.kbs}"

    @property
    def console_url(self) -> str:
        """Where a browser on this machine finds every launch."""
        return f"http://127.0.0.1:{self.ports.console}"

    @property
    def console_token(self) -> Path:
        """What one signs in to the console with; the console makes it. Only this stack's user reads it."""
        return self.root / "console/token"

    def credentials(self, role: str) -> Path:
        """A role's NATS credentials file; see `bus_accounts` for the roles."""
        return self.root / "bus" / f"{role}.creds"

    def save(self) -> None:
        """Write `stack.json`, by which `load` finds the stack again."""
        document = {"name": self.name, "run": str(self.run), "ports": asdict(self.ports), "subnet": self.subnet}
        (self.root / "stack.json").write_text(json.dumps(document, indent=1) + "\n")


def plan(name: str = DEFAULT_NAME, root: Path | None = None) -> Layout:
    """A layout with ports and a pod network that nobody uses now; nothing is made. Raises Permanent(INPUT)."""
    root = (root or ROOTS / name).absolute()
    run = RUNS / name
    if len(str(run / "snapshotter.sock").encode()) > LONGEST_SOCKET_PATH or "/" in name or name in {"", ".", ".."}:
        raise Permanent(
            Code.INPUT,
            "the stack's name does not fit into a socket's path",
            expected=f"at most {LONGEST_SOCKET_PATH} bytes for {RUNS}/NAME/snapshotter.sock, no slash",
            got=name[:200],
            advice="choose a shorter name",
        )
    return Layout(
        name, root, run, Ports(*_free_ports(4)), f"10.{128 + secrets.randbelow(127)}.{secrets.randbelow(256)}.0/24"
    )


def load(name: str = DEFAULT_NAME, root: Path | None = None) -> Layout:
    """The layout of a stack that was made. Raises Permanent(NOT_FOUND)."""
    root = (root or ROOTS / name).absolute()
    try:
        document = json.loads((root / "stack.json").read_text())
    except (OSError, ValueError) as error:
        raise Permanent(
            Code.NOT_FOUND,
            f"there is no stack {name}",
            expected=f"{root}/stack.json",
            got=type(error).__name__,
            advice="`enclave-cc up` makes one",
        ) from error
    return Layout(document["name"], root, Path(document["run"]), Ports(**document["ports"]), document["subnet"])


def _free_ports(count: int) -> list[int]:
    """Held all at once while they are chosen, so that no two are the same."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
