"""Each defect that the deploy scripts before this one were known for, by its issue, and that it is none here.

operator: confidential-containers/operator (archived 2026-02), whose enclave-cc-deploy.sh it was. kata:
kata-containers/kata-containers, whose kata-deploy is of the same family.
"""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from deploy.node import preflight, settings, toml_edit
from deploy.node.containerd import Effective
from deploy.node.flavours import FLAVOURS, PLAIN, detect
from deploy.node.places import CURRENT, Places
from deploy.node.settings import RUNTIMES, Release
from orchestrator.faults import Code, Fault
from tests.simulators.machine_room import CONFIG_1, CONFIG_2, Room
from tests.trees import tree

CONFIG = "etc/containerd/config.toml"
CRI = "io.containerd.grpc.v1.cri"
Payloads = tuple[Path, Path]


def runtimes(text: str, version: int = 2) -> dict[str, object]:
    table = tomllib.loads(text)
    for name in RUNTIMES[version]:
        table = table[name]
    return table


@pytest.mark.parametrize("text", [None, "", "\n# nothing\n"], ids=["none", "empty", "a comment"])
@pytest.mark.parametrize("release", ["1.6.20", "1.7.24"])
def test_kata_3229_with_an_empty_configuration_runc_stays(
    folder: Path, payloads: Payloads, text: str | None, release: str
) -> None:
    room = Room(folder, release, text)
    with room.sockets():
        room.operations(payloads[0]).install()
        assert room.memory["served"] == ["enclave-cc", "runc"]
        assert set(runtimes(room.text(CONFIG))) == {"enclave-cc", "runc"}


def test_operator_305_a_number_stays_the_number_that_it_was(room: Room, payloads: Payloads) -> None:
    room.operations(payloads[0]).install()
    assert "  ratio = 1.0\n" in room.text(CONFIG)


@pytest.mark.parametrize("imports", [None, [], ["/etc/containerd/more/*.toml"]], ids=["none", "empty", "one"])
def test_operator_481_seven_loops_leave_the_imports_as_they_were(
    folder: Path, payloads: Payloads, imports: list[str] | None
) -> None:
    line = "" if imports is None else f"imports = {imports}\n".replace("'", '"')
    room = Room(folder, "2.1.9", CONFIG_2.replace("version = 3\n", f"version = 3\n{line}"))
    before = room.text(CONFIG)
    with room.sockets():
        for _ in range(7):
            room.operations(payloads[0]).install()
            expected = [*(imports or []), "/etc/containerd/conf.d/enclave-cc.toml"]
            assert tomllib.loads(room.text(CONFIG))["imports"] == expected
            room.operations().uninstall()
            assert room.text(CONFIG) == before


@pytest.mark.parametrize("name", ["cri", CRI])
def test_operator_139_a_containerd_whose_cri_is_switched_off_is_told_so_and_left_alone(
    folder: Path, payloads: Payloads, name: str
) -> None:
    room = Room(folder, "1.6.20", f'version = 2\ndisabled_plugins = ["{name}"]\n')
    before = tree(room.root, ("run",))
    with room.sockets(), pytest.raises(Fault, match="CRI switched off") as refused:
        room.operations(payloads[0]).install()
    assert "disabled_plugins" in refused.value.diagnosis.advice
    assert tree(room.root, ("run",)) == before


def test_operator_104_a_program_that_runs_is_not_written_over(room: Room, payloads: Payloads) -> None:
    room.operations(payloads[0]).install()
    program = room.root / CURRENT / "host/bin/running"
    shutil.copy("/bin/sleep", program.resolve())
    with subprocess.Popen([program.resolve(), "60"]) as running:
        room.operations(payloads[0]).install()
        room.operations(payloads[1]).install()
        assert running.poll() is None
        running.kill()


def test_the_scripts_cleanup_dropped_what_an_administrator_had_written_since(room: Room, payloads: Payloads) -> None:
    room.operations(payloads[0]).install()
    mine = room.text(CONFIG).replace("SystemdCgroup = true", "SystemdCgroup = false # cgroupfs here")
    room.write(CONFIG, mine)
    room.operations().uninstall()
    assert room.text(CONFIG) == CONFIG_1.replace("SystemdCgroup = true", "SystemdCgroup = false # cgroupfs here")


def test_the_scripts_cleanup_left_backups_behind(room: Room, payloads: Payloads) -> None:
    names = {path.name for path in (room.root / "etc/containerd").iterdir()}
    room.operations(payloads[0]).install()
    assert {path.name for path in (room.root / "etc/containerd").iterdir()} == names
    room.operations().uninstall()
    assert {path.name for path in (room.root / "etc/containerd").iterdir()} == names


def test_kata_11072_containerd_is_restarted_when_its_handler_goes(room: Room, payloads: Payloads) -> None:
    room.operations(payloads[0]).install()
    assert room.operations().uninstall().restarted
    assert (room.memory["restarts"], room.memory["served"]) == (2, ["runc"])


def test_the_script_said_ready_before_containerd_served_the_handler(room: Room, payloads: Payloads) -> None:
    """An install is done when containerd says that it serves; what does not come up is taken back."""
    before = tree(room.root, ("run",))
    room.change(broken=["serve"])
    with pytest.raises(Fault, match=Code.NODE_SERVICE):
        room.operations(payloads[0]).install()
    assert (tree(room.root, ("run",)), room.memory["served"], room.memory["restarts"]) == (before, ["runc"], 2)


def test_kata_10167_deploy_cleanup_deploy_leaves_a_node_that_serves(room: Room, payloads: Payloads) -> None:
    for _ in range(3):
        room.operations(payloads[0]).install()
        assert room.memory["served"] == ["enclave-cc", "runc"]
        room.operations().uninstall()
        assert room.memory["served"] == ["runc"]


def test_kata_13810_a_handler_that_a_later_release_does_not_have_goes_with_it() -> None:
    old = toml_edit.Wanted(
        {(*RUNTIMES[2], name): {"runtime_type": "x"} for name in ("enclave-cc", "enclave-cc-old")}, {}
    )
    with_both, edit = toml_edit.add(CONFIG_1, old)
    new = settings.wanted(2, Release(1, 7), Places(Path("/")), "/run/s.sock")
    text, _ = toml_edit.add(toml_edit.strip(with_both, edit), new)
    assert set(runtimes(text)) == {"enclave-cc", "runc"}


def test_kata_12902_from_2_2_on_only_a_file_in_conf_d_is_written(folder: Path, payloads: Payloads) -> None:
    room = Room(folder, "2.2.1", CONFIG_2)
    with room.sockets():
        room.operations(payloads[0]).install()
    assert room.text(CONFIG) == CONFIG_2
    assert tomllib.loads(room.text("etc/containerd/conf.d/enclave-cc.toml"))["version"] == 3


@pytest.mark.parametrize("version", [3, 4])
def test_the_script_wrote_version_2_tables_that_a_later_configuration_ignores(
    folder: Path, payloads: Payloads, version: int
) -> None:
    """It looked for the text `version = 2`, and took everything else for version 1."""
    room = Room(folder, "2.3.0", CONFIG_2.replace("version = 3", f"version={version}"))
    with room.sockets():
        room.operations(payloads[0]).install()
    written = tomllib.loads(room.text("etc/containerd/conf.d/enclave-cc.toml"))
    assert written["version"] == version
    assert CRI not in written["plugins"]
    assert "enclave-cc" in room.memory["served"]


def test_the_script_appended_a_table_that_was_there_already(room: Room, payloads: Payloads) -> None:
    """`cat >>`, run twice, wrote a file that is no TOML."""
    room.operations(payloads[0]).install()
    once = room.text(CONFIG)
    room.operations(payloads[1]).install()
    assert room.text(CONFIG) == once
    assert once.count(f'[plugins."{CRI}".containerd.runtimes.enclave-cc]') == 1


def test_the_script_put_user_configuration_into_the_measured_bundle(room: Room, payloads: Payloads) -> None:
    """What is unpacked is what was released, to the byte; what is the node's own stays outside of it."""
    room.operations(payloads[0]).install()
    unpacked = room.root / CURRENT
    assert {path.name for path in unpacked.iterdir()} == {path.name for path in payloads[0].iterdir()}
    assert tree(unpacked) == tree(payloads[0])


def test_an_import_on_1_6_replaces_the_whole_cri_and_is_seen_before_it_is_written() -> None:
    """What killed nodes: the drop-in's one runtime was the only one left. Said by `containerd config dump`."""
    runtime = {"runtime_type": "io.containerd.runc.v2"}
    table = {"plugins": {CRI: {"containerd": {"default_runtime_name": "runc", "runtimes": {"runc": runtime}}}}}
    ours = {"enclave-cc": {"runtime_type": settings.RUNTIME_TYPE}}
    dead = {"plugins": {CRI: {"containerd": {"default_runtime_name": "runc", "runtimes": ours}}}}
    with pytest.raises(Fault, match="runtime handlers would be lost"):
        preflight.judge(Effective(table), Effective(dead), Release(1, 6))


@pytest.mark.parametrize("flavour", [PLAIN, *FLAVOURS], ids=lambda flavour: flavour.name)
def test_the_script_knew_k3s_and_its_kin_and_refused_them(folder: Path, payloads: Payloads, flavour: object) -> None:
    """Each of them is found by its files, changed where it reads, and left as it was."""
    assert isinstance(flavour, type(PLAIN))
    imports = f'imports = ["/{flavour.drop_ins}/*.toml"]\n' if flavour.drop_ins else ""
    release = "2.1.9" if flavour.drop_ins else "1.7.24"
    config = CONFIG_2 if flavour.drop_ins else CONFIG_1
    room = Room(folder, release, config.replace("version = ", f"{imports}version = "), flavour)
    if not flavour.drop_ins:
        room.write(flavour.config, CONFIG_1)
    assert detect(room.places) is flavour
    generated, before = room.text(flavour.effective), tree(room.root, ("run",))
    with room.sockets():
        if flavour.watches:
            room.change(served=["enclave-cc", "runc"])  # its own service takes up what was written
        room.operations(payloads[0]).install()
        if flavour.drop_ins:
            assert room.text(flavour.effective) == generated
            assert "enclave-cc" in room.text(f"{flavour.drop_ins}/enclave-cc.toml")
        else:
            assert "enclave-cc" in room.text(flavour.config)
        if flavour.watches:
            room.change(served=["runc"])
        room.operations().uninstall()
    assert tree(room.root, ("run",)) == before
