"""What the kernel says of a process, and that it says it of the right one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.simulated_cpu import Refused
from tests.simulators.enclaves import until
from workers.host.libos.sim.process import Process, identity

CONNECT = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
    "print('connected', flush=True); sys.stdin.read()"
)


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        yield listening


@pytest.fixture
def client(listener):
    """A process of its own that holds a connection; ends when its standard input does."""
    argv = [sys.executable, "-c", CONNECT, listener.getsockname()]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "connected\n"
        yield process


@pytest.mark.parametrize("way", [Process.of_peer, Process.of_credentials], ids=["pidfd", "credentials"])
def test_the_peer_of_a_socket_is_the_process_that_connected_it(listener, client, way):
    connection, _ = listener.accept()
    with connection:
        peer = way(connection)
        assert peer.pid == client.pid
        assert peer.alive()
        assert peer.pid_namespace() == identity(Path("/proc/self/ns/pid").stat())
        assert peer.cmdline().split(b"\0")[:2] == [sys.executable.encode(), b"-c"]
        client.communicate("")
        assert not peer.alive()
        peer.close()


@pytest.mark.parametrize("way", [Process.of_peer, Process.of_credentials], ids=["pidfd", "credentials"])
def test_a_peer_that_is_gone_is_nobody(listener, client, way):
    connection, _ = listener.accept()
    client.communicate("")
    with connection, pytest.raises(Refused, match="NOT_AN_ENCLAVE"):
        way(connection)


def test_everything_about_a_process_that_ended_is_refused():
    child = subprocess.Popen(["sleep", "60"])
    process = Process.open(child.pid)
    child.kill()
    child.wait()
    looks = (
        process.root,
        process.program,
        process.cmdline,
        process.environ,
        process.mounts,
        process.pid_namespace,
        process.number_in_its_namespace,
    )
    for look in looks:
        with pytest.raises(Refused, match="gone"):
            look()
    process.close()


def test_the_first_process_of_a_new_pid_namespace_sees_itself_as_one():
    argv = ["unshare", "--pid", "--fork", "--kill-child", "sleep", "60"]
    outer = subprocess.Popen(argv, env={"TWICE": "1", "PATH": os.environ["PATH"]})
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    until(children.read_text, "the child runs")
    process = Process.open(int(children.read_text()))
    try:
        until(lambda: process.cmdline() == b"sleep\x0060\0", "it executes")
        assert process.number_in_its_namespace() == 1
        assert process.pid_namespace() != identity(Path("/proc/self/ns/pid").stat())
        assert b"TWICE=1" in process.environ()
        assert any(mount.point == "/" for mount in process.mounts())
    finally:
        process.close()
        outer.kill()
        outer.wait()
