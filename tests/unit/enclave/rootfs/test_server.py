from __future__ import annotations

import errno
import io
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.faults import Code, Permanent
from tests.unit.enclave.rootfs.layers import DIRECTORY, Item, archive, write_image
from workers.enclave.rootfs.format import UNIT, unit_offset
from workers.enclave.rootfs.sealing import Sealed, SealingWriter
from workers.enclave.rootfs.server import StoreServer, start_server
from workers.enclave.rootfs.store import Tampering, TamperReport, open_store
from workers.enclave.rootfs.syscalls import mount_points

LAYER = archive(Item(b"./", DIRECTORY, mode=0o755), Item(b"f", content=os.urandom(5_000_000)))


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    with SealingWriter(tmp_path / "store") as writer:
        writer.add_layer(io.BytesIO(LAYER))
        return writer.finish()


@pytest.fixture
def server(sealed: Sealed, tmp_path: Path) -> Iterator[StoreServer]:
    mountpoint = tmp_path / "served"
    mountpoint.mkdir()
    with open_store(sealed.path, sealed.key, sealed.root_hash) as store:
        started = start_server(store, mountpoint)
    with started:
        yield started
    assert mountpoint not in [point.path for point in mount_points()]


def test_the_served_file_is_the_image(server: StoreServer, tmp_path: Path) -> None:
    assert server.image.read_bytes() == write_image(tmp_path / "image", LAYER).read_bytes()
    assert [path.name for path in server.image.parent.iterdir()] == [server.image.name]
    assert server.tamper_reports() == []


def test_nobody_may_write_and_nobody_else_may_read(server: StoreServer) -> None:
    for flags in (os.O_WRONLY, os.O_RDWR):
        with pytest.raises(OSError) as refusal:
            os.open(server.image, flags)
        assert refusal.value.errno in (errno.EROFS, errno.EACCES)
    with pytest.raises(OSError):
        (server.image.parent / "new").touch()
    stranger = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "cat", server.image], capture_output=True, check=False
    )
    assert stranger.returncode != 0
    assert stranger.stdout == b""


def test_an_absent_name_is_absent_and_the_server_lives_on(server: StoreServer) -> None:
    assert not (server.image.parent / "absent").exists()
    assert os.statvfs(server.image.parent).f_namemax == 255
    assert len(server.image.read_bytes()) == server.image.stat().st_size


def test_an_altered_unit_is_an_error_and_a_report_and_never_data(server: StoreServer, sealed: Sealed) -> None:
    with sealed.path.open("r+b") as file:
        file.seek(unit_offset(200))
        file.write(b"altered by the host")
    with server.image.open("rb", buffering=0) as image:
        os.posix_fadvise(image.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        with pytest.raises(OSError) as failure:
            os.pread(image.fileno(), 10, 200 * UNIT + 100)
        assert failure.value.errno == errno.EIO
        assert select.select([server.reports], [], [], 10)[0]
        assert server.tamper_reports() == [TamperReport(Tampering.UNIT, 200)]
        # The mount is alive, and what was not touched is still served.
        assert len(os.pread(image.fileno(), 10, 100 * UNIT)) == 10
        with pytest.raises(OSError):
            os.pread(image.fileno(), 10, 200 * UNIT + 100)
    assert server.tamper_reports() == []


def test_a_cut_store_is_an_error_and_a_report(server: StoreServer, sealed: Sealed) -> None:
    os.truncate(sealed.path, unit_offset(250))
    with pytest.raises(OSError) as failure:
        server.image.read_bytes()
    assert failure.value.errno == errno.EIO
    assert Tampering.LENGTH in {report.kind for report in server.tamper_reports()}


def test_the_server_holds_nothing_open_of_what_its_parent_had(sealed: Sealed, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    (tmp_path / "served").mkdir()
    with (
        open_store(sealed.path, sealed.key, sealed.root_hash) as store,
        start_server(store, tmp_path / "served"),
    ):
        theirs.close()
        ours.settimeout(10)
        assert ours.recv(1) == b""
    ours.close()


def test_stopping_twice_is_stopping_once(server: StoreServer) -> None:
    server.stop()
    server.stop()
    assert not server.image.exists()


def test_a_server_that_was_killed_leaves_no_mount_once_stopped(server: StoreServer) -> None:
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    assert not server.image.exists()


def children() -> set[str]:
    """Pids of this process's children: the test runner may have some of its own."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_a_place_that_cannot_be_mounted_is_a_fault_and_no_process_is_left(sealed: Sealed, tmp_path: Path) -> None:
    before = children()
    with (
        open_store(sealed.path, sealed.key, sealed.root_hash) as store,
        pytest.raises(Permanent) as fault,
    ):
        start_server(store, tmp_path / "absent")
    assert fault.value.code is Code.BOOT_STORE
    assert children() <= before
