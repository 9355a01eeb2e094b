"""What boot init does with a store, as the first process of a container: open, serve, mount, run, unmount.

Run by test_container.py inside runc: `boot_probe.py <store> <root hash, hex>`, the key on stdin. The container's root
is read-only; /run is a tmpfs of its own. Prints what it saw as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from workers.enclave.rootfs.crypto import StoreKey
from workers.enclave.rootfs.overlay import mount_root, unmount_root
from workers.enclave.rootfs.server import start_server
from workers.enclave.rootfs.store import open_store
from workers.enclave.rootfs.syscalls import mount_points


def below_run() -> list[str]:
    return [str(point.path) for point in mount_points() if str(point.path).startswith("/run/")]


def main() -> None:
    served, root = Path("/run/served"), Path("/run/root")
    served.mkdir()
    root.mkdir()
    key = StoreKey(bytearray(sys.stdin.buffer.read(32)))
    with open_store(Path(sys.argv[1]), key, bytes.fromhex(sys.argv[2])) as store:
        key.wipe()
        server = start_server(store, served)
    mount_root(server.image, root, 16 << 20)
    seen = {
        "pid": os.getpid(),
        "mounts": below_run(),
        "text": (root / "etc" / "motd").read_text(),
        "program": subprocess.run(
            ["chroot", root, "/bin/probe", "-u"], capture_output=True, text=True, check=True
        ).stdout,
        "stranger": subprocess.run(
            ["chroot", "--userspec=65534:65534", root, "/bin/probe", "-u"], capture_output=True, text=True, check=True
        ).stdout,
    }
    (root / "etc" / "motd").write_text("changed in memory\n")
    seen["changed"] = (root / "etc" / "motd").read_text()
    # overlayfs copies each of these up with this process's rights.
    for name in ("bin/probe", "ping", "null", "owned"):
        os.utime(root / name, (1, 1))
    # It also changes modes with them: the file's owner may set its group's bit, whatever groups this process has.
    subprocess.run(["setpriv", "--reuid=7", "--regid=8", "--clear-groups", "chmod", "2711", root / "owned"], check=True)
    seen["copied up"] = {
        name: [oct(status.st_mode), status.st_uid, status.st_rdev, os.listxattr(root / name)]
        for name in ("bin/probe", "ping", "null", "owned")
        for status in [(root / name).stat()]
    }
    if "--leave-mounted" not in sys.argv:
        unmount_root(root)
        server.stop()
        seen["mounts after"] = below_run()
    seen["reports"] = [str(report) for report in server.tamper_reports()] if "--leave-mounted" in sys.argv else []
    print(json.dumps(seen))


main()
