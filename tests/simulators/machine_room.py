"""A node behind the seams of `deploy.node`: containerd's reading of its configuration, its CRI, a keeper of services.

Everything that it remembers is on its disk, so that a process that is killed takes nothing of the node with it. How
containerd merges is as it was seen: 1.x drops its default handlers when a file names one, and lets an import replace
whole plugins; 2.x merges, imports of one version only.
"""

from __future__ import annotations

import json
import socket
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from deploy.node.containerd import Effective
from deploy.node.flavours import PLAIN, Flavour
from deploy.node.journal import Told
from deploy.node.operations import Operations
from deploy.node.payload import read
from deploy.node.places import Places
from deploy.node.services.supervisord import Supervisord
from deploy.node.settings import RUNTIMES, Release
from deploy.node.steps import Node
from orchestrator.faults import Code, Permanent, Temporary

SOCKETS = ("run/enclave-cc/shims.sock", "run/enclave-cc/snapshotter.sock", "run/enclave-cc/zygote.sock", "run/cpu.sock")
NODE_TOML = """node = "node-a"
run_dir = "/run/enclave-cc"
state_dir = "/var/lib/enclave-cc"
runc = "/usr/sbin/runc"
[bus]
url = "tls://127.0.0.1:4222"
ca = "/etc/enclave-cc/bus-ca.pem"
[credentials]
worker = "/etc/enclave-cc/worker.creds"
[enclave]
agent_bundle = "/opt/enclave-cc/current/bundles/sim/agent.erofs"
boot_bundle = "/opt/enclave-cc/current/bundles/sim/boot.erofs"
libos = "sim"
socket = "/run/sgx.sock"
control = "/run/cpu.sock"
init_data = "/etc/enclave-cc/init-data.toml"
"""
CONFIG_1 = """# The administrator's own.
version = 2

[grpc]
  address = "/run/containerd/containerd.sock" # do not move

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.6"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs" # as everywhere
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true

[metrics]
  grpc_histogram = false
  ratio = 1.0
"""
CONFIG_2 = """version = 3
# cgroups
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
    SystemdCgroup = true
"""


class Room:
    """One simulated node in a folder (a short path: sockets). `release`: containerd's."""

    def __init__(self, folder: Path, release: str, config: str | None, flavour: Flavour = PLAIN) -> None:
        self.root, self._memory = folder / "root", folder / "memory.json"
        self.version, self.flavour = release, flavour
        self.places = Places(self.root)
        for name in ("etc/supervisor/conf.d", "etc/enclave-cc", "run/enclave-cc", "opt", "usr/local/bin", "var/lib"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.write("etc/enclave-cc/node.toml", NODE_TOML)
        self.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        if config is not None:
            self.write(flavour.effective, config)
        self._remember({"running": [], "restarts": 0, "served": sorted(self._handlers()), "pods": [], "broken": []})

    def write(self, path: str, text: str) -> None:
        """As an administrator does."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def text(self, path: str) -> str:
        return (self.root / path).read_text()

    @contextmanager
    def sockets(self) -> Iterator[None]:
        """Somebody answers where the services are waited for."""
        with ExitStack() as stack:
            for name in SOCKETS:
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(str(self.root / name))
                listener.listen(1024)
            yield

    def operations(self, payload: Path | None = None, told: Told = lambda _: None, machine: str = "") -> Operations:
        keeper = Keeper(self)
        given = None if payload is None else read(payload)
        node = Node(self.places, keeper, self, lambda _: Answers(self), payload, given, patience=0.2)
        return Operations(node, self.flavour, machine, told)

    # -- what happens on it

    @property
    def memory(self) -> dict[str, Any]:
        remembered: dict[str, Any] = json.loads(self._memory.read_text())
        return remembered

    def change(self, **members: object) -> None:
        """What else is true of this node: `pods`, or what is `broken` (serve, or a service's name)."""
        self._remember({**self.memory, **members})

    def _remember(self, memory: Mapping[str, Any]) -> None:
        self._memory.write_text(json.dumps(memory))

    def _handlers(self) -> set[str]:
        return set(self.dump(self.root / self.flavour.effective).handlers)

    def restart_containerd(self) -> None:
        memory = self.memory
        if self.flavour.name == "microk8s":  # its service fills in the template when it starts
            self.write(self.flavour.effective, self.text(self.flavour.config))
        self.change(restarts=memory["restarts"] + 1, served=sorted(self._handlers()))

    # -- containerd, the program

    def release(self) -> tuple[str, Release]:
        major, minor = (int(part) for part in self.version.split(".")[:2])
        return self.version, Release(major, minor)

    def dump(self, config: Path) -> Effective:
        root = _parsed(config) if config.exists() else {}
        modern = not self.version.startswith("1.")
        version = root.get("version", 3 if modern else 1)
        merged: dict[str, Any] = {"imports": [], **root}
        for pattern in root.get("imports", self._default_imports()):
            for name in sorted(self.root.glob(pattern.lstrip("/"))):
                imported = _parsed(name)
                if modern and imported.get("version", 1) != version:
                    raise Permanent(Code.NODE_CONTAINERD, "a drop-in of another version", got=str(name))
                merged = _merge(merged, imported, deep=modern)
        if "imports" not in root:
            merged["imports"] = self._default_imports()
        runtimes = RUNTIMES[3 if modern else 2]
        defaults: dict[str, Any] = {"default_runtime_name": "runc"}
        if modern or not Effective(merged).handlers:
            defaults["runtimes"] = {"runc": {"runtime_type": "io.containerd.runc.v2"}}
        return Effective(_merge({"plugins": {runtimes[1]: {"containerd": defaults}}}, merged, deep=True))

    def _default_imports(self) -> list[str]:
        _, release = self.release()
        return ["/etc/containerd/conf.d/*.toml"] if (release.major, release.minor) >= (2, 2) else []


class Answers:
    """Its CRI."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def version(self) -> str:
        return self._room.version

    def handlers(self) -> frozenset[str]:
        if "serve" in self._room.memory["broken"] and "enclave-cc" in self._room.memory["served"]:
            raise Temporary(Code.NODE_SERVICE, "it does not come up with this configuration")
        return frozenset(self._room.memory["served"])

    def pods(self, handler: str) -> tuple[str, ...]:
        return tuple(self._room.memory["pods"])


class Keeper(Supervisord):
    """Services by name; their files are those of supervisord."""

    def __init__(self, room: Room) -> None:
        super().__init__(room.root / "run/supervisor.sock")
        self._room = room

    def reload(self) -> None:
        pass

    def start(self, name: str) -> None:
        if name in self._room.memory["broken"]:
            raise Temporary(Code.NODE_SERVICE, f"{name} does not start")
        self._room.change(running=sorted({*self._room.memory["running"], name}))

    def restart(self, name: str) -> None:
        self.start(name)

    def stop(self, name: str) -> None:
        self._room.change(running=sorted({*self._room.memory["running"]} - {name}))

    def runs(self, name: str) -> bool:
        return name in self._room.memory["running"]

    def restart_containerd(self) -> None:
        self._room.restart_containerd()


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except ValueError as error:
        raise Permanent(Code.NODE_CONTAINERD, "containerd cannot read it", got=str(error)) from error


def _merge(one: Mapping[str, Any], other: Mapping[str, Any], *, deep: bool, depth: int = 0) -> dict[str, Any]:
    merged = dict(one)
    for name, value in other.items():
        whole = not deep and depth == 1  # a plugin's table
        if isinstance(value, dict) and isinstance(merged.get(name), dict) and not whole:
            merged[name] = _merge(merged[name], value, deep=deep, depth=depth + 1)
        else:
            merged[name] = value
    return merged
