"""A node in a folder: an administrator's containerd under supervisord, and nothing of ours until it is installed.

Bus, broker, registry and orchestrator are a stack's, whose own node programs are stopped. The node's root is a folder,
and its programs call it by that folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit

from deploy import supervisord
from deploy.local import node as node_config
from deploy.local.cri import Kubelet
from deploy.local.programs import MARK
from deploy.node.services.supervisord import CONTAINERD
from deploy.supervisord import Daemon
from tests.e2e.cluster import Cluster
from tests.waiting import eventually
from workers.host.node_file import ENVIRONMENT
from workers.host.shim.start import ZYGOTE

REPLACED = ("containerd", "zygote", "snapshotter", "worker", "cpu")
"""The stack's own node, in the order of stopping."""
CRI = "io.containerd.grpc.v1.cri"
KEPT = ("run", "var")
"""What is no configuration: sockets, containers, what services remember."""


class NodeHost:
    """One such node beside a stack. `programs`: a folder with containerd and its runc shim; empty for the machine's."""

    def __init__(self, cluster: Cluster, programs: str) -> None:
        self.cluster, self.layout = cluster, cluster.layout
        self.folder = Path(tempfile.mkdtemp(prefix="ecc-"))
        self.root = self.folder / "r"
        self.address = self.root / "run/containerd.sock"
        self._programs = programs
        self._supervisor = Daemon(self.root / "run/supervisor.sock", "")
        for name in ("usr/bin", "etc/containerd", "etc/enclave-cc", "etc/supervisor/conf.d", "run", "var/lib", "opt"):
            (self.root / name).mkdir(parents=True)
        found = shutil.which("containerd", path=f"{programs}:{os.environ['PATH']}" if programs else None)
        (self.root / "usr/bin/containerd").symlink_to(str(found))
        (self.root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        self.config = self.root / "etc/containerd/config.toml"
        self.config.write_text(self._containerd())
        (self.root / "etc/enclave-cc/node.toml").write_text(self._settings())
        (self.root / "etc/supervisor/supervisord.conf").write_text(self._supervisord())
        # The CPU stays the one whose root the owner trusts: only its keeper is another.
        shutil.copytree(self.layout.root / "cpu", self.root / "var/lib/enclave-cc/cpu")
        self.kubelet = self._kubelet("enclave-cc")
        self.plain = self._kubelet("runc")

    def start(self) -> None:
        """supervisord, and containerd under it."""
        configuration = self.root / "etc/supervisor/supervisord.conf"
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", configuration]
        subprocess.run(command, check=True, timeout=60, cwd="/", env=self._environment())
        eventually(self._supervisor.alive)
        eventually(self.plain.ready)

    def end(self) -> None:
        """Stop what it started, and take its folder away. What was left of pods is the stack's to find."""
        for kubelet in (self.plain, self.kubelet):
            kubelet.close()
        if self._supervisor.alive():
            self._supervisor.call("shutdown")
            eventually(lambda: not self._supervisor.alive())
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{self.root}/"):
                subprocess.run(["umount", "--lazy", line.split()[1]], check=False)
        shutil.rmtree(self.folder)

    def restart_containerd(self) -> None:
        """As an administrator does."""
        self._supervisor.stop(CONTAINERD)
        self._supervisor.start(CONTAINERD)
        eventually(self.plain.ready)

    def command(self, *arguments: str | Path) -> list[str]:
        """`enclave-cc node` on this node."""
        program = Path(sys.executable).with_name("enclave-cc")
        return [str(program), "node", *map(str, arguments), "--root", str(self.root), "--seen-as", str(self.root)]

    def run(self, *arguments: str | Path) -> dict[str, Any]:
        """Run it and return its document; the exit status says the same."""
        done = subprocess.run(
            [*self.command(*arguments), "--json"], capture_output=True, text=True, check=False, timeout=180
        )
        document: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (1 if document["phase"] == "failed" else 0), done.stderr
        return document

    def _kubelet(self, handler: str) -> Kubelet:
        return Kubelet(self.address, handler=handler, log_directory=self.layout.logs / "pods")

    def _containerd(self) -> str:
        """The stack's configuration of containerd, as if nobody had heard of us."""
        document: Any = tomlkit.parse((self.layout.root / "containerd/config.toml").read_text())
        document["root"], document["state"] = str(self.root / "var/lib/containerd"), str(self.root / "run/containerd")
        document["grpc"]["address"] = str(self.address)
        document["debug"]["address"] = str(self.root / "run/debug.sock")
        del document["proxy_plugins"]
        containerd = document["plugins"][CRI]["containerd"]
        del containerd["disable_snapshot_annotations"]
        containerd["snapshotter"] = "overlayfs"
        containerd["runtimes"]["runc"]["options"]["Root"] = str(self.root / "run/runc")
        for handler in ("enclave-cc", "enclave-cc-sandbox"):
            del containerd["runtimes"][handler]
        return tomlkit.dumps(document) + "\n# The administrator's last word.\n"

    def _settings(self) -> str:
        document: Any = tomlkit.parse(node_config.configuration(self.layout))
        document["run_dir"], document["state_dir"] = str(self.root / "run/ecc"), str(self.root / "var/lib/enclave-cc")
        enclave = document["enclave"]
        for name in ("agent", "boot"):
            enclave[f"{name}_bundle"] = str(self.root / f"opt/enclave-cc/current/bundles/sim/{name}.erofs")
        enclave["socket"], enclave["control"] = str(self.root / "run/sgx.sock"), str(self.root / "run/sgx-control.sock")
        return tomlkit.dumps(document)

    def _supervisord(self) -> str:
        run = self.root / "run"
        program = supervisord.section(
            f"program:{CONTAINERD}",
            {
                "command": f"{self.root}/usr/bin/containerd --config {self.config}",
                "environment": supervisord.environment({"PATH": self._path()}),
                "autorestart": "true",
                "stopwaitsecs": 20,
                "redirect_stderr": "true",
                "stdout_logfile": self.layout.logs / "node-containerd.log",
            },
        )
        return "\n\n".join(
            [
                supervisord.section("unix_http_server", {"file": run / "supervisor.sock", "chmod": "0700"}),
                supervisord.section(
                    "supervisord",
                    {
                        "logfile": self.layout.logs / "node-supervisord.log",
                        "pidfile": run / "supervisord.pid",
                        "childlogdir": self.layout.logs,
                    },
                ),
                supervisord.section(
                    "rpcinterface:supervisor",
                    {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
                ),
                supervisord.section("include", {"files": self.root / "etc/supervisor/conf.d/*.conf"}),
                program,
            ]
        )

    def _path(self) -> str:
        """As systemd's: /usr/local/bin before /usr/bin."""
        return ":".join(filter(None, [str(self.root / "usr/local/bin"), self._programs, os.environ["PATH"]]))

    def _environment(self) -> dict[str, str]:
        """What a real node has by its default paths; and the stack's mark, by which nothing is left behind."""
        return {
            "PATH": self._path(),
            "LANG": "C.UTF-8",
            "HOME": "/root",
            ENVIRONMENT: str(self.root / "etc/enclave-cc/node.toml"),
            ZYGOTE: str(self.root / "run/ecc/zygote.sock"),
            MARK: str(self.layout.run),
        }


@contextmanager
def node_host(cluster: Cluster, programs: str = "") -> Iterator[NodeHost]:
    """A node that runs; the stack's own node programs are stopped for it."""
    for program in REPLACED:
        cluster.stop(program)
    node = NodeHost(cluster, programs)
    try:
        node.start()
        yield node
    finally:
        node.end()
