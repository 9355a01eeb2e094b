"""containerd's configuration for one stack: Debian's 1.6 or a later one, unmodified, everything private to the stack.

Zone: host. May import: `deploy.local.layout`.

What cannot be private and is cleaned up by name: cgroups, and the Go shim's sockets under /run/containerd/s.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

from deploy.local.layout import Layout

PAUSE: Final = "enclave-cc/pause:1"
SHIM: Final = "containerd-shim-enclave-cc-v2"

_CONFIGURATION: Final = """version = 2
root = {root}
state = {state}
oom_score = 0
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = {address}
[debug]
  address = {debug}
[proxy_plugins.enclave-cc]
  type = "snapshot"
  address = {snapshotter}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {pause}
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  # This machine may itself be a container's guest, without the right to lower an OOM score or to load a profile.
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = {cni}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "enclave-cc"
    disable_snapshot_annotations = false
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = {runc}
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.enclave-cc]
      runtime_type = "io.containerd.enclave-cc.v2"
      pod_annotations = ["enclave-cc/*"]
    # The same, with the pod's sandbox left to the shim: containerd 2 does, 1.x does not know the word.
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.enclave-cc-sandbox]
      runtime_type = "io.containerd.enclave-cc.v2"
      sandboxer = "shim"
      pod_annotations = ["enclave-cc/*"]
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {hosts}
"""

_HOSTS: Final = """server = {endpoint}
[host.{endpoint}]
  capabilities = ["pull", "resolve"]
  ca = {ca}
"""
"""Source: containerd docs/hosts.md. As its own mirror, because containerd speaks plain HTTP to a loopback otherwise."""

_SHIM: Final = """#!{python} -IS
import site, sys
site.addsitedir({packages!r})
sys.path.insert(0, {project!r})
from workers.host.shim.main import main
main()
"""
"""Without `site` an interpreter starts in 7 ms; every pod's shim starts this way."""


def write(layout: Layout) -> Path:
    """Write the configuration, the pod network and the shim's launcher; return the configuration's path."""
    root = layout.root / "containerd"
    network = root / "cni"
    network.mkdir(parents=True, exist_ok=True)
    (network / "10-enclave-cc.conflist").write_text(_pod_network(layout, root / "addresses"))
    _write_shim(root / "bin")
    values = {
        "root": root / "lib",
        "state": layout.run / "containerd",
        "address": layout.containerd,
        "debug": layout.containerd_debug,
        "snapshotter": layout.snapshotter,
        "pause": f"{layout.registry_host}/{PAUSE}",
        "cni": network,
        "runc": layout.run / "runc",
        "hosts": root / "certs.d",
        "endpoint": f"https://{layout.registry_host}",
        "ca": layout.ca,
    }
    quoted = {name: json.dumps(str(value)) for name, value in values.items()}
    # What containerd tells a kubelet to be its images' file system; it makes that folder for its own snapshotters only,
    # and a kubelet that does not find it neither collects images nor evicts for want of room.
    images = root / "lib/io.containerd.snapshotter.v1.enclave-cc"
    images.parent.mkdir(exist_ok=True)
    if not images.is_symlink():
        images.symlink_to(layout.snapshots)
    registry = root / "certs.d" / layout.registry_host
    registry.mkdir(parents=True, exist_ok=True)
    (registry / "hosts.toml").write_text(_HOSTS.format(**quoted))
    path = root / "config.toml"
    path.write_text(_CONFIGURATION.format(**quoted))
    return path


def network(layout: Layout) -> str:
    """The name of the pods' network, by which the network's plugins know the stack."""
    return f"enclave-cc-{layout.name}"


def path_with_shim(layout: Layout) -> str:
    """containerd's PATH: it is found there itself, and finds a runtime's shim by name.

    The caller's comes first, so that it may bring a containerd of its own.
    """
    usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return f"{layout.root / 'containerd/bin'}:{os.environ.get('PATH', usual)}:{usual}"


def _write_shim(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    project = Path(__file__).resolve().parents[2]
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    launcher = folder / SHIM
    launcher.write_text(_SHIM.format(python=sys.executable, packages=packages, project=str(project)))
    launcher.chmod(0o755)


def _pod_network(layout: Layout, addresses: Path) -> str:
    """Point to point: no bridge stays behind, and the veth goes with the pod's namespace."""
    ipam = {
        "type": "host-local",
        "dataDir": str(addresses),
        "ranges": [[{"subnet": layout.subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [{"type": "ptp", "ipMasq": False, "ipam": ipam}]
    return json.dumps({"cniVersion": "0.4.0", "name": network(layout), "plugins": plugins}, indent=1)
