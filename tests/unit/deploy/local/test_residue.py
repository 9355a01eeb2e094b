"""What belongs to a stack, asked of real processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.local import residue
from deploy.local.layout import Layout, plan
from deploy.local.programs import MARK

COMMAND = ("sleep", "3600")


@contextmanager
def sleeping(environment: dict[str, str], command: tuple[str, ...] = COMMAND) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env={"PATH": os.environ["PATH"], **environment})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def mark(layout: Layout) -> dict[str, str]:
    return {MARK: str(layout.run)}


def test_a_stacks_leftovers_are_ended_and_nobody_elses_who_runs_the_same() -> None:
    mine, other = plan("mine"), plan("other")
    with (
        sleeping(mark(mine)) as leftover,
        sleeping(mark(other)) as others,
        sleeping({}) as nobodys,
        sleeping(mark(mine), ("sleep", "3601")) as container,
    ):
        residue.end(mine, (COMMAND,))
        assert leftover.wait(5) == -9
        assert [process.poll() for process in (others, nobodys, container)] == [None, None, None]
