"""Sockets in a pod's network namespace, made from outside of it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.machine import descriptors
from tests.network import Network
from tests.waiting import eventually
from workers.host.netns import listen_in

PORT = 61440


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


def test_a_socket_listens_inside_and_nowhere_else(network: Network) -> None:
    with listen_in(network.path, "127.0.0.1", PORT) as listener:
        assert not listener.getblocking()
        with network.dial(PORT) as inside:
            inside.sendall(b"from inside")
            listener.setblocking(True)
            with listener.accept()[0] as accepted:
                assert accepted.recv(100) == b"from inside"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", PORT), timeout=5)


def test_each_namespace_has_the_port_to_itself(network: Network) -> None:
    with Network() as other, listen_in(network.path, "127.0.0.1", PORT), listen_in(other.path, "127.0.0.1", PORT):
        pass


def test_a_port_that_is_taken_is_an_os_error(network: Network) -> None:
    with listen_in(network.path, "127.0.0.1", PORT), pytest.raises(OSError) as raised:
        listen_in(network.path, "127.0.0.1", PORT)
    assert raised.value.errno == errno.EADDRINUSE


def test_a_port_is_free_again_at_once(network: Network) -> None:
    for _ in range(3):
        with listen_in(network.path, "127.0.0.1", PORT), network.dial(PORT):
            pass


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", FileNotFoundError),
        ("/run/netns/absent", FileNotFoundError),
        ("/etc/hostname", OSError),
        ("/proc/self/ns/mnt", OSError),
        ("/run/\0", ValueError),
    ],
)
def test_what_is_no_network_namespace_is_refused(path: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        listen_in(path, "127.0.0.1", PORT)


def test_nobody_is_left_in_the_namespace_and_nothing_open(network: Network) -> None:
    others, before = namespaces_of_threads(), len(descriptors())
    listen_in(network.path, "127.0.0.1", PORT).close()
    with pytest.raises(OSError):
        listen_in("/proc/self/ns/mnt", "127.0.0.1", PORT)
    eventually(lambda: namespaces_of_threads() <= others)  # a joined thread may still be ending in the kernel
    assert len(descriptors()) == before


def namespaces_of_threads() -> set[int]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):
            found.add(task.joinpath("ns/net").stat().st_ino)
    return found
