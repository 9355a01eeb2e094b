"""Services under systemd and under supervisord: their files, and what their keepers are asked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import supervisord
from deploy.node.services import Unit
from deploy.node.services.supervisord import CONFIGURATION, SOCKET, Supervisord
from deploy.node.services.systemd import UNITS, Systemd
from orchestrator.faults import Fault
from tests.simulators.systemd_manager import SystemdManager
from tests.waiting import eventually

WORKER = Unit("enclave-cc-worker", "the worker", ("/bin/sleep", "600"), {"ONE": "1"})
ZYGOTE = Unit("enclave-cc-zygote", "the zygote", ("/bin/sleep", "601"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd package")
def test_systemd_itself_finds_nothing_to_say_of_the_units(tmp_path: Path) -> None:
    keeper = Systemd(tmp_path / "private", ("containerd.service",))
    for name, content in keeper.files([WORKER, ZYGOTE]).items():
        (tmp_path / Path(name).name).write_bytes(content)
    command = ["systemd-analyze", "verify", *sorted(tmp_path.glob("*.service"))]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (said.returncode, said.stderr) == (0, "")


def test_a_unit_outlives_its_keepers_stop_for_what_it_started_for_pods(tmp_path: Path) -> None:
    text = Systemd(tmp_path, ("containerd.service",)).files([WORKER])[f"{UNITS}/enclave-cc-worker.service"].decode()
    assert "\nKillMode=process\n" in text
    assert "\nBefore=containerd.service\n" in text
    assert '\nEnvironment="ONE=1"\n' in text


def test_systemd_is_asked_over_its_private_socket_and_its_jobs_are_waited_for(folder: Path) -> None:
    private = folder / "private"
    with SystemdManager(private, enclave_cc_worker="active", k3s_agent="active") as manager:
        keeper = Systemd(private, ("k3s.service", "k3s-agent.service"))
        keeper.reload()
        assert keeper.runs("enclave-cc-worker")
        keeper.restart("enclave-cc-worker")
        keeper.stop("enclave-cc-worker")
        assert not keeper.runs("enclave-cc-worker")
        keeper.restart_containerd()
    changes = [line for line in manager.asked if not line.startswith("LoadUnit")]
    assert changes == [
        "Reload",
        "RestartUnit enclave-cc-worker.service",
        "StopUnit enclave-cc-worker.service",
        "RestartUnit k3s-agent.service",
    ]


def test_what_systemd_refuses_is_told_in_its_words(folder: Path) -> None:
    private = folder / "private"
    with SystemdManager(private, enclave_cc_worker="missing"), pytest.raises(Fault) as refused:
        Systemd(private, ("containerd.service",)).restart("enclave-cc-worker")
    assert "Unit enclave-cc-worker.service not found." in refused.value.diagnosis.got


def test_without_systemds_socket_it_says_what_a_job_must_have(folder: Path) -> None:
    with pytest.raises(Fault, match="systemd") as away:
        Systemd(folder / "private", ("containerd.service",)).reload()
    assert "mounted" in away.value.diagnosis.advice


def test_a_real_supervisord_takes_up_changes_and_drops_what_is_gone(folder: Path) -> None:
    for name in ("run", "etc/supervisor/conf.d"):
        (folder / name).mkdir(parents=True)
    interface = {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"}
    sections = [
        supervisord.section("unix_http_server", {"file": folder / SOCKET}),
        supervisord.section("supervisord", {"logfile": folder / "log", "pidfile": folder / "pid"}),
        supervisord.section("rpcinterface:supervisor", interface),
        supervisord.section("include", {"files": folder / "etc/supervisor/conf.d/*.conf"}),
    ]
    (folder / "supervisord.conf").write_text("\n\n".join(sections) + "\n")
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(folder / "supervisord.conf")]
    keeper = Supervisord(folder / SOCKET)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        try:
            eventually(lambda: not keeper.runs(WORKER.name))
            write(folder, keeper.files([WORKER, ZYGOTE]))
            keeper.reload()
            keeper.start(WORKER.name)
            keeper.start(WORKER.name)
            assert keeper.runs(WORKER.name)
            assert keeper.runs(ZYGOTE.name)
            keeper.stop(ZYGOTE.name)
            assert not keeper.runs(ZYGOTE.name)
            write(folder, keeper.files([WORKER]))
            keeper.reload()
            assert keeper.runs(WORKER.name)
            (folder / CONFIGURATION).unlink()
            keeper.reload()
            assert not keeper.runs(WORKER.name)
            keeper.stop(WORKER.name)
        finally:
            daemon.terminate()


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
