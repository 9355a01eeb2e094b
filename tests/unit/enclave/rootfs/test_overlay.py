from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.faults import Code, Fault, Permanent
from tests.unit.enclave.rootfs.layers import CHARACTER, DIRECTORY, SYMLINK, Item, archive, listing, mounted, write_image
from workers.enclave.rootfs.overlay import mount_root, unmount_root
from workers.enclave.rootfs.syscalls import mount_points

SIZE = 4 << 20


def program(path: str, mode: int) -> list[Item]:
    """A program of this machine and the libraries it needs, in the places it looks for them."""
    linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    needed = [word for word in linked.split() if word.startswith("/")]
    return [
        Item(b"bin/probe", content=Path(path).read_bytes(), mode=mode),
        *(Item(os.fsencode(library[1:]), content=Path(library).read_bytes(), mode=0o755) for library in needed),
    ]


ITEMS = (
    Item(b"./", DIRECTORY, mode=0o1751, uid=5, gid=6, mtime="7", xattrs=(("user.root", b"r"),)),
    Item(b"bin", DIRECTORY, mode=0o755),
    *program("/usr/bin/id", 0o4755),
    Item(b"etc", DIRECTORY, mode=0o755),
    Item(b"etc/motd", content=b"from the image\n"),
    Item(b"etc/link", SYMLINK, link=b"motd", mode=0o777),
    Item(b"null", CHARACTER, device=(1, 3), mode=0o666),
)


def mounts_below(path: Path) -> list[Path]:
    return [point.path for point in mount_points() if point.path.is_relative_to(path)]


@contextmanager
def rooted(tmp_path: Path, *items: Item) -> Iterator[Path]:
    image = write_image(tmp_path / "image", archive(*items))
    target = tmp_path / "root"
    target.mkdir()
    mount_root(image, target, SIZE)
    try:
        yield target
    finally:
        unmount_root(target)
        assert mounts_below(tmp_path) == []


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    with rooted(tmp_path, *ITEMS) as target:
        yield target


def test_the_root_is_the_image_in_every_attribute_of_the_root_itself_too(root: Path, tmp_path: Path) -> None:
    seen = listing(root)
    with mounted(tmp_path / "image", tmp_path / "plain") as plain:
        assert seen == listing(plain)
    assert (root.stat().st_mode & 0o7777, root.stat().st_uid, root.stat().st_mtime_ns) == (0o1751, 5, 7 * 10**9)


def test_what_is_written_goes_to_memory_and_the_image_stays(root: Path, tmp_path: Path) -> None:
    before = (tmp_path / "image").read_bytes()
    (root / "etc" / "motd").write_text("changed\n")
    (root / "new").write_text("new\n")
    (root / "etc" / "link").unlink()
    assert (root / "etc" / "motd").read_text() == "changed\n"
    assert not (root / "etc" / "link").is_symlink()
    assert (tmp_path / "image").read_bytes() == before


def test_more_than_the_memory_allowed_cannot_be_written(root: Path) -> None:
    with pytest.raises(OSError) as refusal:
        (root / "big").write_bytes(bytes(SIZE + 1))
    assert refusal.value.errno == errno.ENOSPC


def test_no_path_leads_around_the_overlay(root: Path) -> None:
    assert not {"lower", "upper", "work"} & {path.name for path in root.iterdir()}


def test_programs_run_and_set_id_programs_as_their_owner(root: Path) -> None:
    command = ["chroot", "--userspec=65534:65534", root, "/bin/probe"]
    assert subprocess.run([*command, "-u"], capture_output=True, check=True).stdout == b"0\n"
    assert subprocess.run([*command, "-ru"], capture_output=True, check=True).stdout == b"65534\n"


def test_devices_of_the_image_open(root: Path) -> None:
    with (root / "null").open("wb") as null:
        null.write(b"gone")
    assert os.statvfs(root).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_RDONLY) == 0


@pytest.mark.parametrize("image", [b"", b"no file system at all" * 1000, bytes(8192)], ids=["empty", "text", "zeros"])
def test_what_is_no_image_is_a_fault_and_nothing_stays_mounted(tmp_path: Path, image: bytes) -> None:
    (tmp_path / "image").write_bytes(image)
    (tmp_path / "root").mkdir()
    with pytest.raises(Permanent) as fault:
        mount_root(tmp_path / "image", tmp_path / "root", SIZE)
    assert fault.value.code is Code.BOOT_STORE
    assert "the sealed image" in str(fault.value)
    assert mounts_below(tmp_path) == []


@pytest.mark.parametrize("name", ["with,comma", "with:colon", "absent"])
def test_a_place_that_cannot_be_mounted_is_a_fault(tmp_path: Path, name: str) -> None:
    image = write_image(tmp_path / "image", archive(*ITEMS))
    if name != "absent":
        (tmp_path / name).mkdir()
    with pytest.raises(Permanent) as fault:
        mount_root(image, tmp_path / name, SIZE)
    assert fault.value.code is Code.BOOT_STORE
    assert mounts_below(tmp_path) == []


def test_a_root_in_use_is_not_unmounted_and_may_be_later(root: Path) -> None:
    busy = os.open(root, os.O_RDONLY)
    try:
        with pytest.raises(Fault) as fault:
            unmount_root(root)
        assert fault.value.temporary
    finally:
        os.close(busy)
    assert (root / "etc" / "motd").exists()
