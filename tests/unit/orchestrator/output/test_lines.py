"""A log's lines as kubelets, containerd and kubectl write them."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path

from orchestrator.output import lines
from orchestrator.output.lines import LogLine
from tests.waiting import eventually

AT = "2026-11-23T21:04:24.123456789Z"


def test_a_line_that_was_split_is_one_again_whatever_came_between() -> None:
    raw = [
        f"{AT} stdout P one ".encode(),
        f"{AT} stderr F other".encode(),
        f"{AT} stdout F line".encode(),
        f"{AT} stdout F:tag  spaced ".encode(),
        f"{AT} stderr P never ended".encode(),
    ]
    assert list(lines.parse(raw)) == [
        LogLine(AT, "stderr", b"other"),
        LogLine(AT, "stdout", b"one line"),
        LogLine(AT, "stdout", b" spaced "),
        LogLine(AT, "stderr", b"never ended"),
    ]


def test_what_kubectl_prints_is_read_too() -> None:
    assert list(lines.parse([b"bare words", f"{AT} timed words".encode(), b""])) == [
        LogLine("", "", b"bare words"),
        LogLine(AT, "", b"timed words"),
        LogLine("", "", b""),
    ]


def test_what_is_no_time_is_not_taken_for_one() -> None:
    odd = b"2026-11-23T21:04:24\x1b[31mZ stdout F words"
    assert list(lines.parse([odd])) == [LogLine("", "", odd)]
    assert next(lines.parse([b"2026-11-23T21:04:24.1+01:00 stdout F words"])).content == b"words"


def test_rotated_files_are_read_first_packed_or_not_and_a_line_that_is_being_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "0.log.20261123-210000.gz").write_bytes(gzip.compress(b"first\n"))
    (tmp_path / "0.log.20261123-220000").write_bytes(b"second\n")
    (tmp_path / "0.log.20261123-220000.tmp").write_bytes(b"half\n")
    (tmp_path / "0.log").write_bytes(b"third\nfour")
    (tmp_path / "1.log").write_bytes(b"another start\n")
    assert list(lines.read(lines.files_of(tmp_path / "0.log"))) == [b"first", b"second", b"third"]


def test_following_goes_on_in_the_new_file_and_loses_nothing_of_the_old(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"one\ntw")
    found: list[bytes] = []

    def follow() -> None:
        for line in lines.follow(log):
            if line is not None:
                found.append(line)
            if line == b"three":
                return

    following = threading.Thread(target=follow)
    following.start()
    eventually(lambda: found == [b"one"])
    with log.open("ab") as old:
        old.write(b"o\n")
        log.rename(tmp_path / "0.log.1")
        old.write(b"late\n")
    log.write_bytes(b"three\n")
    following.join(30)
    assert found == [b"one", b"two", b"late", b"three"]
