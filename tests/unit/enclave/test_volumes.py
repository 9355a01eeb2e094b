"""Encrypted volumes, by the real gocryptfs: shared by whoever has the key, ciphertext for everybody else."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.faults import Code, Permanent
from tests.waiting import eventually
from workers.enclave.boot.volumes import Volume, mount_volume
from workers.enclave.rootfs.syscalls import mount_points

KEY, OTHER = b"k" * 32, b"o" * 32
CANARY = "a canary that the host must not read"
AS_SOMEBODY = """
import os, sys
os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(1000); os.setuid(1000)
open("theirs", "w").write("x")
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    directory = tmp_path / "host"
    directory.mkdir()
    directory.chmod(0o777)
    return directory


class Enclaves:
    """App enclaves' mounts of one directory."""

    def __init__(self, host: Path, places: Path, undo: ExitStack) -> None:
        self._host, self._places, self._undo = host, places, undo
        self.volumes: list[Volume] = []

    def mount(self, key: bytes = KEY, *, read_only: bool = False) -> Path:
        volume = mount_volume(self._host, self._places / str(len(self.volumes)), key, read_only=read_only)
        self._undo.callback(volume.unmount)
        self.volumes.append(volume)
        return volume.mountpoint


@pytest.fixture
def enclaves(host: Path, tmp_path: Path) -> Iterator[Enclaves]:
    with ExitStack() as undo:
        yield Enclaves(host, tmp_path / "enclaves", undo)


def everything(host: Path) -> bytes:
    """All names, contents and links of the host's directory."""
    parts = []
    for path in host.rglob("*"):
        parts.append(os.fsencode(path.name))
        if path.is_symlink():
            parts.append(os.fsencode(path.readlink()))
        elif path.is_file():
            parts.append(path.read_bytes())
    return b"\n".join(parts)


def test_what_one_writes_the_other_reads_and_the_host_does_not(enclaves: Enclaves, host: Path) -> None:
    one, other = enclaves.mount(), enclaves.mount()
    (one / "canary-name").write_text(CANARY)
    (one / "canary-link").symlink_to("canary-target")
    (one / ("canary-long" * 20)).mkdir()
    assert (other / "canary-name").read_text() == CANARY
    assert sorted(path.name for path in other.iterdir()) == ["canary-link", "canary-long" * 20, "canary-name"]
    seen = everything(host)
    assert len(seen) > len(CANARY)
    assert b"canary" not in seen


def test_renaming_appending_linking_and_removing_reach_the_other(enclaves: Enclaves) -> None:
    one, other = enclaves.mount(), enclaves.mount()
    (one / "a").write_text("begun")
    assert (other / "a").read_text() == "begun"
    (one / "folder").mkdir()
    (other / "a").rename(other / "folder/b")
    assert not (one / "a").exists()
    with (one / "folder/b").open("a") as file:
        file.write(", gone on with")
    assert (other / "folder/b").read_text() == "begun, gone on with"
    os.link(other / "folder/b", other / "hard")
    assert (one / "hard").stat().st_nlink == 2
    (one / "folder/b").unlink()
    assert [path.name for path in (other / "folder").iterdir()] == []
    os.truncate(other / "hard", 3)
    assert (one / "hard").read_text() == "beg"


def test_mapped_memory_is_written_and_read_and_locks_hold_within_one_container(enclaves: Enclaves) -> None:
    one, other = enclaves.mount(), enclaves.mount()
    (one / "map").write_bytes(bytes(8192))
    with (one / "map").open("r+b") as file, mmap.mmap(file.fileno(), 8192) as mapped:
        mapped[4096:4100] = b"word"
        mapped.flush()
        assert (other / "map").read_bytes()[4096:4100] == b"word"
        with (one / "map").open() as second, (other / "map").open() as elsewhere:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(BlockingIOError):
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(elsewhere, fcntl.LOCK_EX | fcntl.LOCK_NB)  # what pods.md says: not between containers


def test_it_is_there_after_a_restart_and_another_key_finds_nothing(enclaves: Enclaves, host: Path) -> None:
    (enclaves.mount() / "kept").write_text(CANARY)
    enclaves.volumes[0].unmount()
    assert not any(point.path == enclaves.volumes[0].mountpoint for point in mount_points())
    assert (enclaves.mount() / "kept").read_text() == CANARY
    assert list(enclaves.mount(OTHER).iterdir()) == []


def test_an_altered_block_is_an_error_and_never_data(enclaves: Enclaves, host: Path) -> None:
    one = enclaves.mount()
    (one / "file").write_bytes(b"x" * 10_000)
    (kept,) = host.iterdir()
    raw = bytearray(kept.read_bytes())
    raw[5000] ^= 1
    kept.write_bytes(raw)
    with pytest.raises(OSError, match="Input/output error"):
        (enclaves.mount() / "file").read_bytes()


def test_two_files_of_the_same_content_look_different_and_do_not_open_in_each_others_place(
    enclaves: Enclaves, host: Path
) -> None:
    one = enclaves.mount()
    (one / "a").write_bytes(b"x" * 8192)
    (one / "b").write_bytes(b"x" * 8192)
    first, second = host.iterdir()
    assert first.read_bytes() != second.read_bytes()
    header = 18  # version and file id: gocryptfs, Documentation/file-format.md
    first.write_bytes(first.read_bytes()[:header] + second.read_bytes()[header:])
    other, failed = enclaves.mount(), []
    for name in ("a", "b"):
        try:
            assert (other / name).read_bytes() == b"x" * 8192
        except OSError:
            failed.append(name)
    assert len(failed) == 1


def test_a_file_belongs_to_who_made_it(enclaves: Enclaves) -> None:
    one, other = enclaves.mount(), enclaves.mount()
    subprocess.run([sys.executable, "-c", AS_SOMEBODY, str(one)], check=True)
    assert ((other / "theirs").stat().st_uid, (other / "theirs").stat().st_gid) == (1000, 1000)


def test_read_only_is_read_only(enclaves: Enclaves) -> None:
    (enclaves.mount() / "a").write_text("1")
    other = enclaves.mount(read_only=True)
    assert (other / "a").read_text() == "1"
    with pytest.raises(OSError, match="Read-only"):
        (other / "b").touch()


def test_neither_set_id_nor_devices_come_from_the_host(enclaves: Enclaves) -> None:
    one = enclaves.mount()
    (options,) = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {one} " in line]
    assert {"nosuid", "nodev"} <= set(options.split(" ")[5].split(","))


def test_the_key_is_in_no_argument_and_no_environment(enclaves: Enclaves) -> None:
    enclaves.mount()
    (volume,) = enclaves.volumes
    for name in ("cmdline", "environ"):
        seen = Path(f"/proc/{volume.pid}/{name}").read_bytes()
        assert KEY not in seen
        assert KEY.hex().encode() not in seen


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Permanent) as raised:
        mount_volume(tmp_path / "file", tmp_path / "place", KEY, read_only=False)
    assert raised.value.code is Code.BOOT_VOLUME
    assert raised.value.diagnosis.got == "gocryptfs ended with 6"


def test_a_server_that_was_killed_leaves_errors_and_can_be_taken_off(enclaves: Enclaves) -> None:
    one = enclaves.mount()
    (volume,) = enclaves.volumes
    (one / "a").write_text("1")
    os.kill(volume.pid, signal.SIGKILL)

    def fails() -> bool:
        try:
            return not (one / "a").read_text()
        except OSError:
            return True

    eventually(fails)
    volume.unmount()
    volume.unmount()
    assert not any(point.path == one for point in mount_points())
