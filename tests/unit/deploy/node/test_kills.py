"""install, upgrade, rollback and uninstall, killed at every line of their journal, and run again.

A child process is killed (SIGKILL) the moment a line is on the disk: before a step (its `begun`), after it (its
`done`), and after it without that line, as if the kill had come a moment sooner. Then the same command runs again.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.node.journal import Told
from deploy.node.operations import Operations
from deploy.node.places import JOURNAL
from deploy.node.report import Report
from orchestrator.faults import Fault
from tests.simulators.machine_room import CONFIG_1, CONFIG_2, Room
from tests.trees import tree

KEPT = ("etc", "opt", "usr", "var")
JOURNALS = ("var/lib/enclave-cc/node/journal", "var/lib/enclave-cc/node/journal.previous")
Act = Callable[[Operations], Report]
VERBS: dict[str, tuple[tuple[int, ...], int | None, Act]] = {
    # Payloads installed before, the payload that is given, and the command.
    "install": ((), 0, lambda operations: operations.install()),
    "upgrade": ((0,), 1, lambda operations: operations.install(upgrade=True)),
    "rollback": ((0, 1), None, lambda operations: operations.rollback()),
    "uninstall": ((0, 1), None, lambda operations: operations.uninstall()),
}


class Case:
    """One command on one node, as often as wanted from the same beginning."""

    def __init__(self, room: Room, payloads: tuple[Path, Path], verb: str) -> None:
        before, given, self.act = VERBS[verb]
        self.room, self.given = room, None if given is None else payloads[given]
        for number in before:
            room.operations(payloads[number]).install()
        self.saved = room.root.parent / "saved"
        for name in KEPT:
            shutil.copytree(room.root / name, self.saved / name, symlinks=True)
        self.memory = room.memory
        self.lines: list[str] = []
        self.run(self.lines.append)
        self.wanted, self.running = self.state(), room.memory["running"]

    def again(self) -> None:
        """The node as it was before the command."""
        for name in KEPT:
            shutil.rmtree(self.room.root / name)
            shutil.copytree(self.saved / name, self.room.root / name, symlinks=True)
        self.room.change(**self.memory)

    def run(self, told: Told = lambda _: None) -> Report:
        return self.act(self.room.operations(self.given, told))

    def run_killed_at(self, number: int) -> None:
        """In a process of its own, which ends at that line."""
        child = os.fork()
        if child == 0:
            count = 0

            def told(_: str) -> None:
                nonlocal count
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            try:
                self.run(told)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"line {number} was not reached"
        assert os.WTERMSIG(status) == signal.SIGKILL

    def state(self) -> dict[str, str]:
        return tree(self.room.root, ("run", *JOURNALS))

    def forget_last_line(self) -> None:
        journal = self.room.root / JOURNAL
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[:-1]))


@pytest.mark.parametrize("release", ["2.1.9"])
@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_every_line_and_run_again_it_ends_in_the_wanted_state(
    folder: Path, payloads: tuple[Path, Path], release: str, verb: str
) -> None:
    room = Room(folder, release, CONFIG_1 if release.startswith("1.") else CONFIG_2)
    with room.sockets():
        case = Case(room, payloads, verb)
        assert len(case.lines) > 10
        for number, line in enumerate(case.lines, 1):
            # Without its `begun` a step was never begun: that is the line before.
            for forgotten in (False, True) if line.startswith("done") else (False,):
                case.again()
                case.run_killed_at(number)
                if forgotten:
                    case.forget_last_line()
                case.run()
                assert case.state() == case.wanted, f"{line}, {forgotten=}"
                assert room.memory["running"] == case.running
                assert ("enclave-cc" in room.memory["served"]) == (verb != "uninstall")


@pytest.mark.parametrize("verb", ["upgrade"])
def test_killed_at_every_line_of_the_way_back_the_next_run_finishes_it(
    folder: Path, payloads: tuple[Path, Path], verb: str
) -> None:
    room = Room(folder, "1.6.20", CONFIG_1)
    with room.sockets():
        case = Case(room, payloads, verb)
        case.again()
        broken = ["enclave-cc-snapshotter"]
        before = case.state()
        room.change(broken=broken)
        lines: list[str] = []
        with pytest.raises(Fault):
            case.run(lines.append)
        assert case.state() == before
        first = next(number for number, line in enumerate(lines, 1) if line.startswith("undoing"))
        for number in range(first, len(lines) + 1):
            case.again()
            room.change(broken=broken)
            case.run_killed_at(number)
            room.change(broken=[])
            case.run()
            assert case.state() == case.wanted, f"line {number}"


@pytest.mark.parametrize("verb", ["install"])
def test_killed_at_every_line_another_command_finds_the_node_whole(
    folder: Path, payloads: tuple[Path, Path], verb: str
) -> None:
    room = Room(folder, "1.6.20", CONFIG_1)
    pristine = tree(room.root, ("run",))
    with room.sockets():
        case = Case(room, payloads, verb)
        for number, line in enumerate(case.lines, 1):
            case.again()
            case.run_killed_at(number)
            room.operations().uninstall()
            assert tree(room.root, ("run",)) == pristine, line
            assert (room.memory["running"], room.memory["served"]) == ([], ["runc"])
