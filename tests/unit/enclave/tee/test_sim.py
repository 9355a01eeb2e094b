"""The enclave's side of the simulated CPU's socket, when what answers there is not a CPU."""

from __future__ import annotations

import socket
import threading

import pytest

from orchestrator.faults import Code, Permanent
from schemas.simulated_cpu import frame
from workers.enclave.tee.sim import SimulatedTee


def answering(path, reply: bytes) -> None:
    """A server that reads a request and answers `reply`, whatever was asked, once."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()


def test_without_a_cpu_there_is_a_fault_that_says_so(tmp_path):
    with pytest.raises(Permanent, match="no simulated CPU") as fault:
        SimulatedTee(tmp_path / "missing").my_target_info()
    assert fault.value.code is Code.ATTEST_QUOTE
    assert str(tmp_path / "missing") in fault.value.diagnosis.expected


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\0\0",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x09\0short",
        frame(b"\0" + bytes(431)),
        frame(b"\0" + b"\xff" * 432),
        frame(b"\x01a reason"),
        frame(b"\xee\xff\xfe"),
    ],
)
def test_an_answer_that_is_none_is_a_fault_and_nothing_else(tmp_path, reply):
    answering(tmp_path / "s", reply)
    with pytest.raises(Permanent) as fault:
        SimulatedTee(tmp_path / "s").my_target_info()
    assert fault.value.code is Code.ATTEST_QUOTE


def test_the_cpus_own_words_reach_the_person(tmp_path):
    answering(tmp_path / "s", frame(b"\x02its arguments are not the measured ones"))
    with pytest.raises(Permanent) as fault:
        SimulatedTee(tmp_path / "s").quote(b"")
    assert fault.value.diagnosis.got == "NOT_AS_MEASURED: its arguments are not the measured ones"
