"""The host's data: one state of it is copied and measured, whatever the host does meanwhile, wherever links lead."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from pathlib import Path

import pytest

from orchestrator.faults import Code, Permanent
from workers.enclave.boot.host_data import MOST_BYTES, MOST_ENTRIES, MOST_MOUNTS, Taken, take
from workers.enclave.launch_policy.approved import ApprovedMount

WHERE = "/etc/app"


def host_data(sha256: str = "") -> ApprovedMount:
    return ApprovedMount(WHERE, "bind", "", read_only=True, sha256=sha256)


def taken(source: Path, sha256: str = "", place: str = "taken") -> Taken:
    (found,) = take([host_data(sha256)], source.parent / place, lambda _: str(source))
    return found


def refused(source: Path, sha256: str = "", place: str = "refused") -> Permanent:
    with pytest.raises(Permanent) as raised:
        taken(source, sha256, place)
    assert raised.value.code is Code.CONFIG_HOST_DATA
    assert WHERE in raised.value.diagnosis.message
    return raised.value


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o644)
    folder.chmod(0o755)
    return folder


def config_map(folder: Path, number: int, files: dict[str, str]) -> Path:
    """As a kubelet writes and replaces one: `..data` leads to the newest directory, and each key to a file of it."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    newest = written(folder / f"..2026_11_23.{number}", files)
    (folder / "..data_tmp").symlink_to(newest.name)
    before = (folder / "..data").readlink() if (folder / "..data").is_symlink() else None
    (folder / "..data_tmp").rename(folder / "..data")
    for name in {name.partition("/")[0] for name in files}:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    if before is not None:
        for path in sorted((folder / before).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (folder / before).rmdir()
    return folder


def test_the_digest_is_that_of_names_modes_and_contents(tmp_path: Path) -> None:
    source = written(tmp_path / "source", {"b.conf": "two", "sub/a.conf": "one"})
    content = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("one", "two")}
    tree = [
        ["", "d", "0755"],
        ["b.conf", "f", "0644", content["two"]],
        ["sub", "d", "0755"],
        ["sub/a.conf", "f", "0644", content["one"]],
    ]
    digest = hashlib.sha256(json.dumps(tree, separators=(",", ":")).encode()).hexdigest()
    found = taken(source)
    assert (found.sha256, str(found)) == (digest, f"/etc/app@sha256:{digest}")
    assert (found.copy / "sub/a.conf").read_text() == "one"
    changes = {
        "content": lambda top: (top / "b.conf").write_text("twp"),
        "name": lambda top: (top / "b.conf").rename(top / "c.conf"),
        "mode": lambda top: (top / "sub").chmod(0o700),
    }
    for what, change in changes.items():
        other = written(tmp_path / what / "source", {"b.conf": "two", "sub/a.conf": "one"})
        assert taken(other, place="before").sha256 == digest
        change(other)
        assert taken(other).sha256 != digest


def test_the_workload_gets_the_same_owners_and_modes(tmp_path: Path) -> None:
    source = written(tmp_path / "source", {"token": "t"})
    (source / "token").chmod(0o440)
    os.chown(source / "token", 0, 2000)
    status = (taken(source).copy / "token").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o440, 0, 2000)


def test_a_file_is_taken_as_well_as_a_directory(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    assert taken(tmp_path / "hosts").copy.read_text() == "127.0.0.1 localhost\n"


def test_a_config_map_has_one_digest_whenever_its_kubelet_wrote_it(tmp_path: Path) -> None:
    files = {"app.conf": "level=info", "nested/extra": "x"}
    first, second = config_map(tmp_path / "first", 1, files), config_map(tmp_path / "second", 2, files)
    plain = written(tmp_path / "plain", files)
    digests = {taken(source, place=f"of-{source.name}").sha256 for source in (first, second, plain)}
    assert len(digests) == 1
    assert sorted(path.name for path in (tmp_path / "of-first/0").iterdir()) == ["app.conf", "nested"]


def test_a_later_change_does_not_reach_what_was_taken(tmp_path: Path) -> None:
    source = config_map(tmp_path / "map", 1, {"a": "old"})
    found = taken(source)
    config_map(source, 2, {"a": "new"})
    assert (found.copy / "a").read_text() == "old"


def test_whatever_is_taken_while_it_is_replaced_is_one_state(tmp_path: Path) -> None:
    def state(number: int) -> dict[str, str]:
        return dict.fromkeys(("a", "b", "c", "d"), f"state {number}")

    source = config_map(tmp_path / "map", 0, state(0))
    stop = threading.Event()

    def replace() -> None:
        number = 1
        while not stop.is_set():
            config_map(source, number, state(number))
            number += 1

    kubelet = threading.Thread(target=replace)
    kubelet.start()
    outcomes = []
    try:
        for number in range(40):
            try:
                found = taken(source, place=f"taken-{number}")
            except Permanent as fault:
                outcomes.append(fault.code)
            else:
                assert len({path.read_text() for path in found.copy.iterdir()}) == 1
    finally:
        stop.set()
        kubelet.join()
    assert set(outcomes) <= {Code.CONFIG_HOST_DATA}, "a kubelet that never rests is refused, and nothing else"
    assert {path.name for path in taken(source).copy.iterdir()} == {"a", "b", "c", "d"}


def test_another_digest_than_the_policys_is_refused_with_both(tmp_path: Path) -> None:
    source = written(tmp_path / "source", {"a": "1"})
    digest = taken(source, place="first").sha256
    assert taken(source, digest, place="second").sha256 == digest
    (source / "a").write_text("2")
    diagnosis = refused(source, digest).diagnosis
    assert digest in diagnosis.expected
    assert diagnosis.got.startswith("sha256:")


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "/proc/self/environ", "nowhere", "loop"])
def test_no_link_leads_out_of_the_mount_or_nowhere(tmp_path: Path, target: str) -> None:
    (tmp_path / "secret").write_text("not the workload's")
    source = written(tmp_path / "source", {"a": "1"})
    (source / "loop").symlink_to(target)
    assert "not the workload's" not in refused(source).diagnostics()


def test_only_files_and_directories_are_taken(tmp_path: Path) -> None:
    for number, make in enumerate(
        [
            os.mkfifo,
            lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
            lambda path: os.mknod(path, 0o020600, os.makedev(1, 3)),
        ]
    ):
        source = written(tmp_path / f"source{number}", {"a": "1"})
        make(source / "strange")
        refused(source, place=f"taken{number}")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "absent")


def test_no_more_is_held_than_was_said(tmp_path: Path) -> None:
    source = written(tmp_path / "large/source", {"a": "1"})
    with (source / "sparse").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    refused(source)
    many = written(tmp_path / "many/source", {f"{n}": "" for n in range(MOST_ENTRIES)})
    refused(many)
    with pytest.raises(Permanent):
        take([host_data()] * (MOST_MOUNTS + 1), tmp_path / "mounts", lambda _: str(source))


def test_a_directory_that_holds_itself_ends(tmp_path: Path) -> None:
    source = written(tmp_path / "source", {"sub/a": "1"})
    (source / "sub/again").symlink_to(".")
    refused(source)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "source", {"a": "1"})
    Path(os.fsdecode(os.fsencode(source) + b"/\xff")).touch()
    refused(source)
