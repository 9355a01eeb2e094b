"""What a pod's processes read of their names and network, for a sandbox that containerd leaves to the shim.

containerd writes `hostname`, `hosts` and `resolv.conf` for the sandboxes that it makes, and mounts them into each of
their containers. For the shim's it does neither, so the files lie in the sandbox's bundle and the mounts are added to
each container's. They are the host's word, as containerd's are: whether a workload sees them is the owner's policy.

Peer: containerd 2.1 internal/cri/server/podsandbox/sandbox_run_linux.go, setupSandboxFiles and parseDNSOptions;
internal/cri/server/container_create.go, linuxContainerMounts.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Permanent

if TYPE_CHECKING:
    from schemas.containerd import cri_pb2

FILES: Final = {"/etc/hostname": "hostname", "/etc/hosts": "hosts", "/etc/resolv.conf": "resolv.conf"}
"""Where a container finds each file of the sandbox's bundle."""
_OPTIONS: Final = ("rbind", "rprivate", "rw")


def write(bundle: Path, config: cri_pb2.PodSandboxConfig, host: Path = Path("/etc")) -> None:
    """Write the files into the sandbox's bundle; what the pod does not say is as in the folder `host`."""
    (bundle / "hostname").write_text((config.hostname or socket.gethostname()) + "\n")
    (bundle / "hosts").write_bytes((host / "hosts").read_bytes())
    if config.HasField("dns_config"):
        (bundle / "resolv.conf").write_text(_resolver(config.dns_config))
    else:
        (bundle / "resolv.conf").write_bytes((host / "resolv.conf").read_bytes())


def mount_into(container: Path, sandbox: Path) -> None:
    """Name the files in a container's `config.json`, but where a place is taken: a kubelet brings its own hosts.

    What is no bundle is left as it is, for its reader to refuse. Raises Permanent(RUNTIME) where it cannot be written.
    """
    path = container / "config.json"
    try:
        document = json.loads(path.read_bytes())
        mounts = document.setdefault("mounts", [])
        taken = {mount["destination"] for mount in mounts}
        missing = [
            {"destination": place, "type": "bind", "source": str(sandbox / name), "options": list(_OPTIONS)}
            for place, name in FILES.items()
            if place not in taken
        ]
        mounts += missing
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    written = path.with_name("config.json.new")
    try:
        written.write_text(json.dumps(document, separators=(",", ":")))
        written.replace(path)
    except OSError as error:
        raise Permanent(
            Code.RUNTIME,
            "the container's specification could not be completed",
            expected=f"{path} to be written",
            got=str(error),
            advice="see whether containerd's state directory is full",
        ) from error


def _resolver(dns: cri_pb2.DNSConfig) -> str:
    lines = [f"search {' '.join(dns.searches)}"] if dns.searches else []
    lines += [f"nameserver {server}" for server in dns.servers]
    lines += [f"options {' '.join(dns.options)}"] if dns.options else []
    return "".join(f"{line}\n" for line in lines)
