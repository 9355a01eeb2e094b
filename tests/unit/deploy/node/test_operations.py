"""What each command leaves on a node, and what it does not touch."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from deploy.node.places import CURRENT, LOCK
from orchestrator.faults import Code, Fault
from tests.payload import make_payload
from tests.simulators.machine_room import CONFIG_1, CONFIG_2, Room
from tests.trees import tree

CONFIG = "etc/containerd/config.toml"
OWN = ("run",)
"""The lock's folder, which a reboot empties."""
RELEASES = ("1.6.20", "1.7.24", "2.0.5", "2.1.9", "2.2.1", "2.3.0")
CONFIGS = {"none": None, "empty": "", "version 2": CONFIG_1, "version 3": CONFIG_2}
EVERY = [
    (release, config)
    for release in RELEASES
    for config in CONFIGS
    if not (release.startswith("1.") and config == "version 3")  # which containerd 1 does not read
]


def test_a_node_is_byte_for_byte_as_before_after_all_four(room: Room, payloads: tuple[Path, Path]) -> None:
    before = tree(room.root, OWN)
    one, two = payloads
    assert room.operations(one).install().phase == "installed"
    assert "enclave-cc" in room.memory["served"]
    upgraded = room.operations(two).install(upgrade=True)
    assert (upgraded.phase, upgraded.restarted, upgraded.configuration_changed) == ("upgraded", False, False)
    back = room.operations().rollback()
    assert (back.phase, back.payload, back.previous) == ("rolled-back", upgraded.previous, None)
    assert room.memory["restarts"] == 1
    gone = room.operations().uninstall()
    assert (gone.phase, gone.previous, gone.restarted) == ("uninstalled", back.payload, True)
    assert room.memory["running"] == []
    assert room.memory["served"] == ["runc"]
    assert tree(room.root, OWN) == before


@pytest.mark.parametrize(("release", "config"), EVERY)
def test_every_release_with_every_configuration_serves_and_comes_back(
    folder: Path, payloads: tuple[Path, Path], release: str, config: str
) -> None:
    room = Room(folder, release, CONFIGS[config])
    before = tree(room.root, OWN)
    with room.sockets():
        assert room.operations(payloads[0]).install().restarted
        assert room.memory["served"] == ["enclave-cc", "runc"]
        again = room.operations(payloads[0]).install()
        assert (again.phase, again.restarted, again.configuration_changed) == ("installed", False, False)
        room.operations().uninstall()
    assert tree(room.root, OWN) == before


def test_what_an_administrator_wrote_since_stays_when_all_is_taken_off(room: Room, payloads: tuple[Path, Path]) -> None:
    room.operations(payloads[0]).install()
    edited = room.text(CONFIG).replace("pause:3.6", "pause:3.9") + '\n# mine\n[debug]\n  level = "debug"\n'
    room.write(CONFIG, edited)
    room.operations(payloads[1]).install()
    room.operations().uninstall()
    assert room.text(CONFIG) == CONFIG_1.replace("pause:3.6", "pause:3.9") + '\n# mine\n[debug]\n  level = "debug"\n'


def test_kata_10913_a_second_run_beside_the_first_is_refused(room: Room, payloads: tuple[Path, Path]) -> None:
    lock = room.places.here(LOCK)
    lock.parent.mkdir(parents=True)
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(Fault, match=Code.NODE_BUSY):
        room.operations(payloads[0]).install()
    os.close(descriptor)


def test_another_machine_than_the_one_that_was_meant_is_left_alone(room: Room, payloads: tuple[Path, Path]) -> None:
    before = tree(room.root)
    with pytest.raises(Fault, match=Code.NODE_OTHER):
        room.operations(payloads[0], machine="f" * 32).install()
    assert tree(room.root) == before


def test_nothing_is_taken_off_while_confidential_pods_run(room: Room, payloads: tuple[Path, Path]) -> None:
    room.operations(payloads[0]).install()
    room.change(pods=["default/web"])
    with pytest.raises(Fault, match="1 confidential pods run"):
        room.operations().uninstall()
    assert "enclave-cc" in room.memory["served"]


def test_a_payload_with_a_flipped_byte_is_not_installed_and_nothing_is_left(
    room: Room, payloads: tuple[Path, Path], folder: Path
) -> None:
    before = tree(room.root, OWN)
    damaged = folder / "damaged"
    shutil.copytree(payloads[0], damaged)
    (damaged / "host/release").write_text("2\n")
    with pytest.raises(Fault, match=Code.NODE_PAYLOAD):
        room.operations(damaged).install()
    assert tree(room.root, OWN) == before


@pytest.mark.parametrize("broken", ["enclave-cc-worker", "enclave-cc-zygote"])
def test_a_service_that_does_not_start_undoes_all(room: Room, payloads: tuple[Path, Path], broken: str) -> None:
    before = tree(room.root, OWN)
    room.change(broken=[broken])
    with pytest.raises(Fault, match=f"{broken} does not start"):
        room.operations(payloads[0]).install()
    assert (tree(room.root, OWN), room.memory["running"]) == (before, [])


def test_an_upgrade_leaves_the_simulated_cpu_running_and_what_it_runs_from(
    room: Room, payloads: tuple[Path, Path], folder: Path
) -> None:
    third = make_payload(folder / "three", "3", bundles=False)
    said: list[str] = []
    room.operations(payloads[0]).install()
    first = (room.root / CURRENT).resolve()
    room.operations(payloads[1], said.append).install()
    assert "done: restart enclave-cc-worker" in said
    assert not [line for line in said if "enclave-cc-cpu" in line]
    room.operations(third).install()
    assert first.exists(), "it runs from there"
    room.change(running=[name for name in room.memory["running"] if name != "enclave-cc-cpu"])
    room.operations(payloads[1]).install()
    room.operations(third).install()
    assert not first.exists()


def test_rolling_back_twice_is_rolling_back_once(room: Room, payloads: tuple[Path, Path]) -> None:
    room.operations(payloads[0]).install()
    room.operations(payloads[1]).install()
    first = room.operations().rollback()
    assert room.operations().rollback() == first


def test_without_an_upgrade_there_is_nothing_to_roll_back_to(room: Room, payloads: tuple[Path, Path]) -> None:
    with pytest.raises(Fault, match="nothing to roll back"):
        room.operations().rollback()
    room.operations(payloads[0]).install()
    with pytest.raises(Fault, match="no earlier payload"):
        room.operations().rollback()


def test_a_payload_stays_for_as_long_as_a_pod_of_it_runs(room: Room, payloads: tuple[Path, Path], folder: Path) -> None:
    """Its agent knows the boot bundle that it was released with, and containers are started again."""
    third = make_payload(folder / "three", "3", bundles=False)
    room.operations(payloads[0]).install()
    first = (room.root / CURRENT).resolve()
    pod = room.root / "run/enclave-cc/pods/pod-a"
    pod.mkdir(parents=True)
    (pod / "boot-bundle").symlink_to(f"/opt/enclave-cc/{first.name}/bundles/sim/boot.erofs")
    room.operations(payloads[1]).install()
    room.operations(third).install()
    assert first.exists()
    shutil.rmtree(pod.parent)
    room.change(running=[])
    room.operations(payloads[1]).install()
    assert not first.exists()


def test_all_goes_also_when_an_administrators_settings_went_first(room: Room, payloads: tuple[Path, Path]) -> None:
    settings = room.root / "etc/enclave-cc/node.toml"
    before = tree(room.root, (*OWN, "etc/enclave-cc/node.toml"))
    room.operations(payloads[0]).install()
    settings.unlink()
    assert room.operations().uninstall().phase == "uninstalled"
    assert (tree(room.root, OWN), room.memory["running"]) == (before, [])
