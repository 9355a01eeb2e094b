"""A containerd of its own: private root, state, network, images; unmodified, and gone without a trace afterwards.

    with Containerd(Settings(...)) as containerd:
        containerd.cri.run_pod("web")

What is private: everything under `root` (a short path: sockets live there), the CNI network (point-to-point: no bridge
stays behind), its address pool. What is not: network namespaces under /run/netns and cgroups, named by containerd and
removed with their pods.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from deploy.local.cri import Kubelet
from orchestrator.faults import Fault
from tests.e2e.images import PAUSE, pause_archive

REPOSITORY = Path(__file__).resolve().parents[2]
READY_WITHIN = 30.0
STOPPED_WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs between tests. `registry` is host:port; `environment` reaches containerd and so every shim.

    `pod` is for shims that shall reach their pod otherwise than by the bus: `module:class`.
    """

    registry: str = ""
    registry_ca: Path | None = None
    snapshotter: bool = True
    pod: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


class Containerd:
    """One containerd and, unless the settings say otherwise, our snapshotter under it."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Nothing runs until the context is entered."""
        self.settings = settings or Settings()
        self.root = root = Path(tempfile.mkdtemp(prefix="ecc-"))
        self.address = root / "c.sock"
        self.snapshotter_address = root / "s.sock"
        self.log = root / "containerd.log"
        self.snapshotter_log = root / "snapshotter.log"
        self.logs = root / "pods"
        self.cri = self.kubelet("runc")
        self._containerd: subprocess.Popen[bytes] | None = None
        self._snapshotter: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._write_configuration()
        try:
            if self.settings.snapshotter:
                self.start_snapshotter()
            self.start()
            archive = pause_archive(self.root / "pause.tar")
            self.ctr("images", "import", "--snapshotter", self._snapshotter_name, str(archive))
        except BaseException:
            self._stop_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._containerd is not None and self._containerd.poll() is None:
                self.cri.remove_everything()
        finally:
            self._stop_all()

    def kubelet(self, handler: str) -> Kubelet:
        """A CRI client whose pods run under that runtime."""
        return Kubelet(self.address, handler=handler, log_directory=self.logs)

    def start(self) -> None:
        """Start containerd and wait until its CRI is ready, network included."""
        environment = dict(os.environ, **self.settings.environment)
        environment["PATH"] = f"{self.root / 'bin'}:{environment['PATH']}"
        with self.log.open("ab") as log:
            self._containerd = subprocess.Popen(
                ["containerd", "--config", self.root / "config.toml"], stdout=log, stderr=log, env=environment
            )
        ends = time.monotonic() + READY_WITHIN
        while not self._ready():
            if self._containerd.poll() is not None or time.monotonic() > ends:
                raise AssertionError(f"containerd did not get ready:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop containerd alone, as an upgrade does: shims and pods go on."""
        self._containerd = _stop(self._containerd)

    def start_snapshotter(self) -> None:
        """Start our snapshotter; wait for its socket and, if containerd runs, until it has connected again."""
        command = [sys.executable, "-m", "workers.host.snapshotter", "--root", self.root / "snapshots"]
        command += ["--address", self.snapshotter_address, "--containerd-address", self.address]
        with self.snapshotter_log.open("ab") as log:
            self._snapshotter = subprocess.Popen(command, stdout=log, stderr=log, cwd=REPOSITORY)
        ends = time.monotonic() + READY_WITHIN
        while not self.snapshotter_address.exists():
            if self._snapshotter.poll() is not None or time.monotonic() > ends:
                raise AssertionError(f"the snapshotter did not start:\n{self.snapshotter_log.read_text()}")
            time.sleep(0.05)
        while self._containerd is not None and self._ctr("snapshots", "--snapshotter", "enclave-cc", "ls").returncode:
            assert time.monotonic() < ends, "containerd did not connect to its snapshotter again"
            time.sleep(0.1)

    def kill_snapshotter(self) -> None:
        """Kill our snapshotter as a crash would."""
        assert self._snapshotter is not None
        self._snapshotter.kill()
        self._snapshotter.wait()
        self.snapshotter_address.unlink()

    def ctr(self, *arguments: str) -> str:
        """Run `ctr` in the CRI's namespace and return what it prints."""
        done = self._ctr(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", self.address, "--namespace", "k8s.io", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def blobs(self) -> set[str]:
        """The digests in the content store."""
        return {line.split("\t")[0] for line in self.ctr("content", "ls").splitlines()[1:]}

    def snapshots(self) -> list[str]:
        """The names of the snapshots that containerd keeps with our snapshotter."""
        return [line.split()[0] for line in self.ctr("snapshots", "--snapshotter", "enclave-cc", "ls").splitlines()[1:]]

    @property
    def _snapshotter_name(self) -> str:
        return "enclave-cc" if self.settings.snapshotter else "overlayfs"

    def _ready(self) -> bool:
        try:
            return self.cri.ready()
        except Fault:
            return False

    def _stop_all(self) -> None:
        self.cri.close()
        self.stop()
        self._snapshotter = _stop(self._snapshotter)
        for mount in sorted(_mounts_under(self.root), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.root)

    def _write_configuration(self) -> None:
        network = self.root / "cni"
        network.mkdir(parents=True)
        (network / "10-enclave-cc.conflist").write_text(_network(self.root))
        binaries = self.root / "bin"
        binaries.mkdir()
        shim = binaries / "containerd-shim-enclave-cc-v2"
        module, _, name = self.settings.pod.partition(":")
        imported = f"from {module} import {name} as make_pod" if module else "make_pod = None"
        shim.write_text(_SHIM.format(python=sys.executable, repository=str(REPOSITORY), pod=imported))
        shim.chmod(0o755)
        registry = ""
        if self.settings.registry_ca is not None:
            registry = _REGISTRY.format(registry=self.settings.registry, ca=self.settings.registry_ca)
        proxy = _PROXY.format(address=self.snapshotter_address) if self.settings.snapshotter else ""
        (self.root / "config.toml").write_text(
            _CONFIGURATION.format(
                root=self.root,
                address=self.address,
                pause=PAUSE,
                network=network,
                snapshotter=self._snapshotter_name,
                registry=registry,
                proxy=proxy,
            )
        )


def _stop(process: subprocess.Popen[bytes] | None) -> None:
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _mounts_under(root: Path) -> Iterator[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        target = line.split()[1]
        if target.startswith(f"{root}/"):
            yield target


def _network(root: Path) -> str:
    # Addresses by process, so that two containerds on one machine route to their own pods.
    subnet = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 256}.0/24"
    return _CNI.format(subnet=subnet, data=root / "cni" / "addresses")


_CNI = """{{
  "cniVersion": "0.4.0", "name": "enclave-cc",
  "plugins": [
    {{"type": "ptp", "ipMasq": false,
     "ipam": {{"type": "host-local", "dataDir": "{data}", "ranges": [[{{"subnet": "{subnet}"}}]],
              "routes": [{{"dst": "0.0.0.0/0"}}]}}}}
  ]
}}
"""

_SHIM = """#!{python} -IS
import sys
sys.path[:0] = [{repository!r}, {repository!r} + "/.venv/lib/python3.11/site-packages"]
from workers.host.shim.main import main
{pod}
main(make_pod)
"""

_PROXY = """
[proxy_plugins.enclave-cc]
  type = "snapshot"
  address = "{address}"
"""

# Named as its own mirror, because containerd speaks plain HTTP to loopback addresses otherwise.
_REGISTRY = """
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."{registry}"]
    endpoint = ["https://{registry}"]
  [plugins."io.containerd.grpc.v1.cri".registry.configs."{registry}".tls]
    ca_file = "{ca}"
"""

_CONFIGURATION = """version = 2
root = "{root}/lib"
state = "{root}/run"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{address}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{network}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    disable_snapshot_annotations = false
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.enclave-cc]
      runtime_type = "io.containerd.enclave-cc.v2"
      pod_annotations = ["enclave-cc/*"]
{registry}
{proxy}
"""
