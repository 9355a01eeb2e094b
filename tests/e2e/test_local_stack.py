"""A machine's whole stack: it starts, survives the death of every process, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from deploy.local import images, registry, residue
from deploy.local.cri import ContainerSpec, Kubelet
from deploy.local.stack import Stack
from orchestrator.faults import Permanent
from tests.waiting import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack.create(f"e{os.getpid()}", tmp_path / "stack")
    try:
        yield made
    finally:
        assert made.down() == []


def run_plain_pod(stack: Stack) -> str:
    """A pod without an enclave, as every node has some; returns its address."""
    image = registry.push(stack.layout, images.busybox(), "busybox:1")
    kubelet = Kubelet(stack.layout.containerd, handler="runc")
    try:
        pod = kubelet.run_pod("plain")
        kubelet.pull(image, pod)
        container = kubelet.create_container(pod, ContainerSpec("main", image, ("/bin/sleep", "600")))
        kubelet.start_container(container)
        assert kubelet.exec(container, ("/bin/id", "-u")) == (0, b"0\n", b"")
        return kubelet.pod_status(pod).ip
    finally:
        kubelet.close()


def all_ready(stack: Stack) -> bool:
    return all(process.ready for process in stack.status())


def test_every_process_may_die_and_comes_back(stack: Stack) -> None:
    stack.up()
    before = {process.name: process.pid for process in stack.status()}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    ends = time.monotonic() + 30
    while any(p.pid in (0, before[p.name]) for p in stack.status()) or not all_ready(stack):
        assert time.monotonic() < ends, stack.status()
        time.sleep(0.1)
    run_plain_pod(stack)


def test_its_console_opens_to_the_token_in_its_folder(stack: Stack) -> None:
    stack.up()
    token = eventually(lambda: stack.layout.console_token.exists() and stack.layout.console_token.read_text().strip())
    with httpx2.Client(base_url=stack.layout.console_url, follow_redirects=True) as browser:

        def signed_in() -> bool:
            with contextlib.suppress(httpx2.TransportError):
                return "Sign out" in browser.post("/login", data={"token": token}).text
            return False

        assert eventually(signed_in)
        assert eventually(lambda: browser.get("/ready").is_success)
    assert stack.layout.console_token.stat().st_mode & 0o077 == 0


def test_a_stack_with_running_pods_goes_without_a_trace(stack: Stack) -> None:
    stack.up()
    address = run_plain_pod(stack)
    traces = residue.of(stack.layout)
    kinds = {line.split()[0] for line in traces.left_behind()}
    assert {"process", "mount", "cgroup", "network", "folder", "file"} <= kinds
    assert stack.down() == []
    assert traces.left_behind() == []
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    assert address not in routes
    assert not list(residue.NETWORK_NOTES.glob(f"enclave-cc-{stack.layout.name}-*"))


def test_a_killed_supervisor_is_replaced_and_its_processes_with_it(stack: Stack) -> None:
    stack.up()
    before = {process.pid for process in stack.status()}
    os.kill(int((stack.layout.run / "supervisord.pid").read_text()), signal.SIGKILL)
    stack.up()
    assert all_ready(stack)
    assert before.isdisjoint({process.pid for process in stack.status()})


def test_data_that_is_kept_is_there_at_the_next_start(stack: Stack) -> None:
    stack.up()
    registry.push(stack.layout, images.busybox(), "kept:1")
    assert stack.down(keep_data=True) == []
    again = Stack.open_(stack.layout.name, stack.layout.root)
    again.up()
    kept = stack.layout.root / "registry/docker/registry/v2/repositories/kept"
    assert kept.is_dir()
    assert all_ready(again)


def test_two_stacks_run_side_by_side(stack: Stack, tmp_path: Path) -> None:
    other = Stack.create(f"o{os.getpid()}", tmp_path / "other")
    try:
        stack.up()
        other.up()
        assert all_ready(stack)
        assert all_ready(other)
        run_plain_pod(other)
        assert other.down() == []
        assert all_ready(stack)
    finally:
        assert other.down() == []


def test_a_second_stack_of_the_same_name_is_refused(stack: Stack) -> None:
    with pytest.raises(Permanent, match="E-INPUT-001"):
        Stack.create(stack.layout.name, stack.layout.root)
