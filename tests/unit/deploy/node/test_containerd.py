"""Debian's own containerd: what it makes of what we would write, asked in the node's root."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.node import configuration, preflight
from deploy.node.containerd import Effective, Program
from deploy.node.flavours import PLAIN
from deploy.node.places import RUN, Places
from deploy.node.settings import Release
from orchestrator.faults import Code, Fault
from tests.simulators.machine_room import CONFIG_1

CONFIG = "etc/containerd/config.toml"
TEXTS = {"none": None, "empty": "", "a version": "version = 2\n", "version 1": "[grpc]\nuid = 0\n", "whole": CONFIG_1}
ASKED_FROM_OUTSIDE = """
mount --bind / {root} && exec {python} -c '
from pathlib import Path
from deploy.node.containerd import Program
from deploy.node.flavours import PLAIN
from deploy.node.places import Places
program = Program(Places(Path("{root}")), PLAIN)
print(program.release()[0], *program.dump(Path("{root}{config}")).handlers)
'
"""


@pytest.fixture
def places(folder: Path) -> Places:
    for name in ("usr/bin", "etc/containerd", RUN):
        (folder / name).mkdir(parents=True)
    (folder / "usr/bin/containerd").symlink_to(str(shutil.which("containerd")))
    return Places(folder, folder)


def judged(places: Places) -> tuple[Effective, Effective, configuration.Target]:
    program = Program(places, PLAIN)
    _, release = program.release()
    before = program.dump(places.here(CONFIG))
    target = configuration.target(places, PLAIN, release, before, "/run/s.sock", {})
    return before, preflight.check(places, PLAIN, program, release, before, target), target


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_containerd_reads_what_we_would_write_and_has_lost_nothing(places: Places, text: str | None) -> None:
    if text is not None:
        places.here(CONFIG).write_text(text)
    before, after, target = judged(places)
    assert set(before.handlers) == {"runc"}
    assert set(after.handlers) == {"runc", "enclave-cc"}
    assert (after.default_handler, after.socket) == (before.default_handler, before.socket)
    assert after.handlers["runc"]["runtime_type"] == before.handlers["runc"]["runtime_type"]
    assert [change.path for change in target.changes] == [CONFIG]
    assert list(places.here(RUN).iterdir()) == []
    assert places.here(CONFIG).exists() is (text is not None)


def test_with_discarded_layers_1_6_gets_no_other_snapshotter(places: Places) -> None:
    head = '[plugins."io.containerd.grpc.v1.cri".containerd]\n'
    places.here(CONFIG).write_text(CONFIG_1.replace(head, f"{head}discard_unpacked_layers = true\n"))
    with pytest.raises(Fault, match="could not be unpacked again"):
        judged(places)


def test_an_import_that_1_6_reads_takes_runc_away_and_is_refused(places: Places) -> None:
    places.here(CONFIG).write_text(CONFIG_1)
    ours = places.here("ours.toml")
    ours.write_text(
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.enclave-cc]\nruntime_type="x"\n'
    )
    program = Program(places, PLAIN)
    before = program.dump(places.here(CONFIG))
    imported = places.here("imported.toml")
    imported.write_text(f'imports = ["{ours}"]\n{CONFIG_1}')
    with pytest.raises(Fault, match="runtime handlers would be lost"):
        preflight.judge(before, program.dump(imported), Release(1, 6))


def test_a_file_that_containerd_cannot_read_is_told_in_its_words(places: Places) -> None:
    places.here(CONFIG).write_text("version = [\n")
    with pytest.raises(Fault) as refused:
        judged(places)
    assert refused.value.code is Code.NODE_CONTAINERD
    assert "config.toml" in refused.value.diagnosis.got


def test_from_outside_of_the_nodes_root_its_program_is_run_inside_of_it(folder: Path, repository: Path) -> None:
    (folder / "own.toml").write_text(CONFIG_1)
    script = ASKED_FROM_OUTSIDE.format(root=folder / "root", python=sys.executable, config=folder / "own.toml")
    (folder / "root").mkdir()
    command = ["unshare", "--mount", "sh", "-ec", script]
    said = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0, said.stderr
    assert said.stdout.split() == ["1.6.20", "runc"]
