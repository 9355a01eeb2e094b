"""supervisord over real processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local import layout, residue, supervision
from deploy.local.layout import Layout
from deploy.local.programs import MARK, Program
from deploy.local.supervision import Supervisor
from orchestrator.faults import Temporary
from tests.waiting import eventually

ODD = '50% "quoted" back\\slash, and=comma'


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Layout]:
    planned = replace(layout.plan(f"t-{os.getpid()}", tmp_path / "root"), run=tmp_path / "r")
    planned.logs.mkdir(parents=True)
    planned.run.mkdir()
    yield planned
    residue.of(planned).remove()


def started(where: Layout, *programs: Program) -> Supervisor:
    (where.root / "supervisord.conf").write_text(supervision.configuration(where, programs))
    supervisor = Supervisor(where)
    supervisor.run_daemon({"PATH": os.environ["PATH"], MARK: str(where.run)})
    for program in programs:
        supervisor.start(program.name)
    return supervisor


def test_a_process_gets_its_arguments_and_environment_to_the_letter(where: Layout, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f"import os, sys, time; open({str(out)!r}, 'w').write(sys.argv[1] + os.environ['X']); time.sleep(60)"
    started(where, Program("odd", (sys.executable, "-c", script, ODD), environment={"X": "10%"}))
    eventually(lambda: out.exists() and out.read_text() == ODD + "10%")


def test_a_process_that_dies_is_started_again(where: Layout) -> None:
    supervisor = started(where, Program("sleeper", ("sleep", "60")))
    eventually(lambda: supervisor.states()[0].state == "RUNNING")
    first = supervisor.states()[0].pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: supervisor.states()[0].pid not in (0, first))


def test_shutting_down_stops_what_runs(where: Layout) -> None:
    supervisor = started(where, Program("sleeper", ("sleep", "60")))
    eventually(lambda: supervisor.states()[0].pid != 0)
    pid = supervisor.states()[0].pid
    supervisor.shut_down()
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert not supervisor.alive()
    with pytest.raises(Temporary, match="E-RUNTIME-001"):
        supervisor.states()


def test_what_a_killed_daemon_leaves_is_found_and_removed(where: Layout) -> None:
    supervisor = started(where, Program("sleeper", ("sleep", "61")))
    eventually(lambda: supervisor.states()[0].pid != 0)
    pid = supervisor.states()[0].pid
    os.kill(int((where.run / "supervisord.pid").read_text()), signal.SIGKILL)
    traces = residue.of(where)
    eventually(lambda: not supervisor.alive())
    assert traces.processes() == {pid: "sleep 61"}
    assert f"folder {where.run}" in traces.left_behind()
    traces.remove()
    assert traces.left_behind() == []
