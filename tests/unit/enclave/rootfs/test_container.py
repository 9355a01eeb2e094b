"""The whole way of a sealed root, ending where it ends in production: in a container, by its first process."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.enclave.rootfs.layers import CHARACTER, DIRECTORY, Item, archive
from tests.unit.enclave.rootfs.test_overlay import program
from workers.enclave.rootfs.format import UNIT, unit_offset
from workers.enclave.rootfs.overlay import mount_root, unmount_root
from workers.enclave.rootfs.sealing import Sealed, SealingWriter
from workers.enclave.rootfs.server import start_server
from workers.enclave.rootfs.store import Tampering, open_store
from workers.enclave.rootfs.syscalls import MNT_DETACH, mount, mount_points, unmount

LAYER = archive(
    Item(b"./", DIRECTORY, mode=0o755),
    Item(b"bulk", content=os.urandom(100 * UNIT)),
    *program("/usr/bin/id", 0o4755),
    Item(b"ping", xattrs=(("security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)),), mode=0o755),
    Item(b"null", CHARACTER, device=(1, 3), mode=0o666),
    Item(b"owned", uid=7, gid=8, mode=0o2755, content=b"7"),
    Item(b"etc/motd", content=b"from the image\n"),
)
MS_BIND = 4096
# What overlay.py says it needs; then what chroot(1) does.
CAPABILITIES = [
    *("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP", "CAP_MKNOD"),
    *("CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT"),
]


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    with SealingWriter(tmp_path / "store") as writer:
        writer.add_layer(io.BytesIO(LAYER))
        return writer.finish()


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    """A runc bundle whose root is this machine's, read-only."""
    root = tmp_path / "bundle" / "rootfs"
    root.mkdir(parents=True)
    mount("/", root, None, MS_BIND)
    try:
        yield root.parent
    finally:
        unmount(root, MNT_DETACH)


def run(bundle: Path, repository: Path, *arguments: str, key: bytes) -> dict[str, object]:
    """Runs boot_probe.py in the bundle, as pid 1 of a container with no more rights than boot init has."""
    probe = Path(__file__).with_name("boot_probe.py")
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [sys.executable, str(probe), *arguments],
            "env": [f"PYTHONPATH={repository}", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE=1"],
            "cwd": "/",
            "noNewPrivileges": False,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        },
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=755"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "network", "ipc", "uts")],
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600}],
            "resources": {
                "devices": [
                    {"allow": False, "access": "rwm"},
                    {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
                ]
            },
        },
    }
    (bundle / "config.json").write_text(json.dumps(config))
    state = ["runc", "--root", str(bundle / "state")]
    name = f"sealed-root-{uuid.uuid4().hex[:12]}"
    try:
        done = subprocess.run(
            [*state, "run", "-b", str(bundle), name], input=key, capture_output=True, timeout=60, check=False
        )
    finally:
        subprocess.run([*state, "delete", "--force", name], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def mounts_of_ours(bundle: Path) -> list[Path]:
    """What this machine's own namespace has mounted in the container's root, seen from either side."""
    ours = [bundle, Path("/run/served"), Path("/run/root")]
    return [point.path for point in mount_points() if any(point.path.is_relative_to(path) for path in ours)]


@pytest.mark.parametrize("leaving", [(), ("--leave-mounted",)], ids=["unmounted", "left mounted"])
def test_a_container_mounts_the_store_runs_from_it_and_leaves_the_host_as_it_was(
    sealed: Sealed, bundle: Path, repository: Path, leaving: tuple[str, ...]
) -> None:
    before = mounts_of_ours(bundle)
    ciphertext = sealed.path.read_bytes()
    seen = run(bundle, repository, str(sealed.path), sealed.root_hash.hex(), *leaving, key=bytes(sealed.key.material))
    assert seen["pid"] == 1
    assert seen["mounts"] == ["/run/served", "/run/root", "/run/root/lower", "/run/root"]
    assert seen["text"] == "from the image\n"
    assert seen["program"] == "0\n"
    assert seen["stranger"] == "0\n", "a set-id program runs as its owner"
    assert seen["changed"] == "changed in memory\n"
    assert seen["reports"] == []
    assert seen["copied up"] == {
        "bin/probe": ["0o104755", 0, 0, []],
        "ping": ["0o100755", 0, 0, ["security.capability"]],
        "null": ["0o20666", 0, os.makedev(1, 3), []],
        "owned": ["0o102711", 7, 0, []],
    }
    if not leaving:
        assert seen["mounts after"] == []
    assert mounts_of_ours(bundle) == before == [bundle / "rootfs"]
    assert sealed.path.read_bytes() == ciphertext


def test_an_altered_unit_is_an_io_error_in_the_merged_root_and_other_files_are_whole(
    sealed: Sealed, tmp_path: Path
) -> None:
    served, root = tmp_path / "served", tmp_path / "root"
    served.mkdir()
    root.mkdir()
    with sealed.path.open("r+b") as file:
        file.seek(unit_offset(50))
        file.write(b"altered by the host")
    with open_store(sealed.path, sealed.key, sealed.root_hash) as store:
        server = start_server(store, served)
    with server:
        mount_root(server.image, root, 1 << 20)
        try:
            with pytest.raises(OSError) as failure:
                (root / "bulk").read_bytes()
            assert failure.value.errno == errno.EIO
            assert (root / "etc" / "motd").read_bytes() == b"from the image\n"
        finally:
            unmount_root(root)
        assert [(report.kind, report.unit) for report in server.tamper_reports()] == [(Tampering.UNIT, 50)]


def test_altered_metadata_is_an_error_and_never_another_tree(sealed: Sealed, tmp_path: Path) -> None:
    served, root = tmp_path / "served", tmp_path / "root"
    served.mkdir()
    root.mkdir()
    with sealed.path.open("r+b") as file:
        file.seek(unit_offset(sealed.units - 1))
        file.write(b"altered by the host")
    with open_store(sealed.path, sealed.key, sealed.root_hash) as store:
        server = start_server(store, served)
    with server:
        with pytest.raises(Exception, match="E-BOOT-001"):
            mount_root(server.image, root, 1 << 20)
        assert Tampering.UNIT in {report.kind for report in server.tamper_reports()}
