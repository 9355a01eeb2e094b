"""The simulated CPU's daemon by itself: what it keeps, what it survives, what a restart does."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.faults import Code, Permanent, Temporary
from tests.simulators.enclaves import NO_CONFIG, Container, CpuProcess, mounts_below
from workers.enclave.tee.sim import SimulatedTee


@pytest.fixture
def own_cpu(tmp_path):
    """A daemon that a test may stop or break."""
    running = CpuProcess(tmp_path / "own")
    running.state.parent.mkdir()
    running.start()
    yield running
    running.stop()
    assert mounts_below(running.state) == []


def prepare(cpu, image):
    return asyncio.run(cpu.libos.prepare(image))


def test_the_state_is_readable_by_root_only_where_it_is_secret(own_cpu):
    def mode(name: str) -> int:
        return stat.S_IMODE((own_cpu.state / name).stat().st_mode)

    assert mode("root-secret") == mode("pki/pck.key") == mode("pki/attestation.key") == 0o600
    assert (own_cpu.state / "root-secret").stat().st_size == 32
    assert stat.S_IMODE(own_cpu.control.stat().st_mode) == 0o600
    assert stat.S_IMODE(own_cpu.socket.stat().st_mode) == 0o666


def test_a_root_secret_that_others_could_read_stops_the_daemon(tmp_path):
    cpu = CpuProcess(tmp_path)
    cpu.start()
    assert cpu.stop() == 0
    (cpu.state / "root-secret").chmod(0o640)
    run = subprocess.run(cpu.argv, capture_output=True, text=True, check=False, timeout=30)
    assert run.returncode == 1
    assert "root secret is not as it was made" in run.stderr
    assert "0640" in run.stderr


def test_two_daemons_cannot_share_one_state(own_cpu):
    second = subprocess.run(own_cpu.argv, capture_output=True, text=True, check=False, timeout=30)
    assert second.returncode == 1
    assert "another simulated CPU uses this state" in second.stderr
    assert asyncio.run(own_cpu.libos.status()).enclaves == ()


def test_a_bundle_is_mounted_once_read_only_and_detached_at_the_end(tmp_path, image):
    cpu = CpuProcess(tmp_path)
    cpu.start()
    first, second = prepare(cpu, image), prepare(cpu, image)
    assert first == second
    assert mounts_below(cpu.state) == [str(first.path)]
    mountinfo = Path("/proc/self/mountinfo").read_text().splitlines()
    options = next(line for line in mountinfo if str(first.path) in line).split()[5].split(",")
    assert {"ro", "nosuid", "nodev"} <= set(options)
    assert cpu.stop() == 0
    assert mounts_below(cpu.state) == []
    assert not cpu.socket.exists()


def test_the_same_image_under_another_name_is_the_same_bundle(own_cpu, image, tmp_path):
    copy = tmp_path / "copy.erofs"
    shutil.copy(image, copy)
    assert prepare(own_cpu, image) == prepare(own_cpu, copy)
    assert len(mounts_below(own_cpu.state)) == 1


def test_many_workers_may_prepare_the_same_bundle_at_once(own_cpu, image):
    with ThreadPoolExecutor(8) as pool:
        bundles = set(pool.map(lambda _: prepare(own_cpu, image).path, range(8)))
    assert len(bundles) == 1
    assert len(mounts_below(own_cpu.state)) == 1


def test_what_is_no_bundle_is_refused(own_cpu, tmp_path):
    text = tmp_path / "text"
    text.write_text("not an image" * 1000)
    os.mkfifo(tmp_path / "fifo")
    missing = tmp_path / "missing"
    for path, code in (
        (text, Code.INPUT),
        (missing, Code.NOT_FOUND),
        (tmp_path, Code.INPUT),
        (tmp_path / "fifo", Code.INPUT),
    ):
        with pytest.raises(Permanent) as refused:
            prepare(own_cpu, path)
        assert refused.value.code is code


def run_enclave(cpu, bundle, tmp_path) -> Container:
    container = Container(cpu, bundle, tmp_path)
    container.create()
    container.enter()
    container.start()
    return container


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_restart_is_a_reset_old_enclaves_fail_and_new_ones_work(own_cpu, image, tmp_path, number):
    bundle = prepare(own_cpu, image)
    old = run_enclave(own_cpu, bundle, tmp_path)
    key = old.ask("seal", policy=1)["key"]
    own_cpu.stop(number)
    assert old.ask("target")["code"] == Code.ATTEST_QUOTE
    own_cpu.start()
    assert old.ask("target")["code"] == Code.ATTEST_QUOTE
    with pytest.raises(Permanent) as refused:
        old.enter()
    assert refused.value.code is Code.NOT_FOUND
    again = prepare(own_cpu, image)
    assert again == bundle
    with pytest.raises(Permanent, match="cannot become an enclave"):
        old.enter()
    new = run_enclave(own_cpu, again, tmp_path)
    assert new.ask("seal", policy=1)["key"] == key
    old.remove()
    new.remove()


def test_an_image_that_changes_under_its_enclaves_ends_their_trust(own_cpu, image, tmp_path):
    copy = tmp_path / "copy.erofs"
    shutil.copy(image, copy)
    bundle = prepare(own_cpu, copy)
    running = run_enclave(own_cpu, bundle, tmp_path)
    with copy.open("ab") as file:
        file.write(b"\0")
    reply = running.ask("target")
    assert "NOT_AS_MEASURED" in reply["got"]
    running.remove()
    changed = prepare(own_cpu, copy)
    assert changed.expected_measurement != bundle.expected_measurement
    new = run_enclave(own_cpu, changed, tmp_path)
    assert new.target().mrenclave == changed.expected_measurement
    new.remove()


def test_an_upgrade_that_replaces_the_file_leaves_running_enclaves_alone(own_cpu, image, tmp_path):
    copy, newer = tmp_path / "copy.erofs", tmp_path / "newer.erofs"
    shutil.copy(image, copy)
    running = run_enclave(own_cpu, prepare(own_cpu, copy), tmp_path)
    newer.write_bytes(image.read_bytes() + b"\0")
    newer.rename(copy)
    assert "target" in running.ask("target")
    running.remove()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\0",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        struct.pack(">I", 5) + b"abc",
        struct.pack(">I", 1) + b"\x09",
        struct.pack(">I", 1) + b"\x01",
        struct.pack(">I", 5) + b"\xff{}{}",
        struct.pack(">I", 1025) + bytes(1025),
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 4000) + b"[" * 4000,
        bytes(range(7, 71)),
    ],
)
@pytest.mark.parametrize("door", ["socket", "control"])
def test_no_garbage_disturbs_the_daemon(cpu, door, sent):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(getattr(cpu, door)))
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass
    assert asyncio.run(cpu.libos.status()).enclaves == ()


@pytest.mark.parametrize(
    "request_text",
    [
        {"do": "einit", "pid": 1, "image_sha256": "0" * 64, "config_id": "0" * 128, "debug": False},
        {"do": "einit", "pid": True, "image_sha256": "0" * 64, "config_id": "0" * 128, "debug": False},
        {"do": "einit", "pid": 77, "image_sha256": "0" * 64, "config_id": "0" * 126, "debug": False},
        {"do": "einit", "pid": 77, "image_sha256": "A" * 64, "config_id": "0" * 128, "debug": False},
        {"do": "einit", "pid": 77, "image_sha256": "0" * 64, "config_id": "0" * 128, "debug": 0},
        {"do": "mount", "bundle": "relative"},
        {"do": "mount", "bundle": "/a\0b"},
        {"do": "status", "more": 1},
        {"do": "shutdown"},
        {},
    ],
)
def test_a_control_request_that_is_not_exactly_one_is_refused(cpu, request_text):
    content = json.dumps(request_text).encode()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(cpu.control))
        client.sendall(struct.pack(">I", len(content)) + content)
        reply = json.loads(client.makefile("rb").read()[4:])
    assert reply["fault"]["code"] == Code.INPUT


def test_a_daemon_that_is_away_is_worth_another_try(tmp_path, bundle):
    cpu = CpuProcess(tmp_path)
    with pytest.raises(Temporary) as away:
        asyncio.run(cpu.libos.enter(os.getpid(), bundle, NO_CONFIG))
    assert away.value.code is Code.RUNTIME


def test_clients_that_die_or_crowd_leave_the_daemon_serving(own_cpu, image, tmp_path):
    running = run_enclave(own_cpu, prepare(own_cpu, image), tmp_path)
    idle = []
    for _ in range(200):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(own_cpu.socket))
        idle.append(client)
    assert "quote" in running.ask("quote", data="")
    for client in idle:
        client.close()
    with ThreadPoolExecutor(16) as pool:
        refused = list(pool.map(lambda _: outsider(own_cpu), range(200)))
    assert set(refused) == {Code.ATTEST_QUOTE}
    assert "quote" in running.ask("quote", data="")
    running.remove()


def outsider(cpu) -> Code:
    try:
        SimulatedTee(cpu.socket).my_target_info()
    except Permanent as refused:
        return refused.code
    raise AssertionError("a stranger was served")


def test_the_daemon_holds_no_more_descriptors_after_many_enclaves_than_before(own_cpu, image, tmp_path):
    def held() -> int:
        return len(list(Path(f"/proc/{own_cpu.pid}/fd").iterdir()))

    bundle = prepare(own_cpu, image)
    before = held()
    for _ in range(3):
        container = run_enclave(own_cpu, bundle, tmp_path)
        container.target()
        container.remove()
    asyncio.run(own_cpu.libos.status())
    assert asyncio.run(own_cpu.libos.status()).enclaves == ()
    assert held() <= before + 1
