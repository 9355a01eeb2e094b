"""The question to containerd's Version service, held against a gRPC server that is not ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from workers.host.shim.caller import answered, version_of

METHOD = "/containerd.services.version.v1.Version/Version"
ANSWER = b"\x0a\x0a1.6.20~ds1\x12\x141.6.20~ds1-1+deb12u3"
SENT = (
    b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00@\x00"
    b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"
    b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x05"
    b"\x00\x00\x08\x06\x00\x00\x00\x00\x00\x02\x04\x10\x10\t\x0e\x07\x07"
    b"\x00\x00\x0e\x01\x04\x00\x00\x00\x01\x88_\x8b\x1du\xd0b\r&=LMed"
    b"\x00\x00'\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\"" + ANSWER
)
"""What containerd 1.6.20 sends, up to the end of the message."""
TRAILERS = (
    b"\x00\x00\x18\x01\x05\x00\x00\x00\x01@\x88\x9a\xca\xc8\xb2\x124\xda\x8f\x010@\x89\x9a\xca\xc8\xb5%B\x071\x7f\x00"
)
Serve = Callable[[bytes | grpc.StatusCode], str]


@pytest.fixture
def serve(short: Path) -> Iterator[Serve]:
    """A server whose Version answers those bytes, or that status; its address."""
    servers = []

    def serving(reply: bytes | grpc.StatusCode) -> str:
        def version(request: bytes, context: grpc.ServicerContext) -> bytes:
            assert request == b""
            if isinstance(reply, bytes):
                return reply
            context.abort(reply, "no")
            raise AssertionError("abort raises")

        server = grpc.server(ThreadPoolExecutor(1))
        handler = grpc.unary_unary_rpc_method_handler(version)
        service, _, name = METHOD[1:].partition("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
        server.add_insecure_port(f"unix://{short}/c.sock")
        server.start()
        servers.append(server)
        return f"{short}/c.sock"

    yield serving
    for server in servers:
        server.stop(None).wait()


def test_a_server_of_another_making_understands_the_question_and_its_answer_is_understood(serve: Serve) -> None:
    assert version_of(serve(ANSWER)) == "1.6.20~ds1"


@pytest.mark.parametrize(
    "reply",
    [b"", b"\x12\x01x", b"\x0a\x02\xff\xff", grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE],
    ids=["empty", "no version", "no text", "no such service", "not now"],
)
def test_an_answer_without_a_version_is_none(serve: Serve, reply: bytes | grpc.StatusCode) -> None:
    assert version_of(serve(reply)) == ""


def test_where_nobody_listens_there_is_no_version(short: Path) -> None:
    assert version_of(f"{short}/c.sock") == ""
    assert version_of("x" * 200) == ""


def test_an_answer_is_there_with_its_last_byte_and_not_before() -> None:
    for length in range(len(SENT)):
        assert answered(SENT[:length]) is None
    assert answered(SENT) == "1.6.20~ds1"
    assert answered(SENT + TRAILERS) == "1.6.20~ds1"


def test_an_answer_may_come_in_several_frames_and_padded() -> None:
    message = SENT[-len(ANSWER) - 5 :]
    padded = b"\x02" + message[7:] + b"\0\0"
    frames = b"\x00\x00\x07\x00\x00\x00\x00\x00\x01" + message[:7]
    frames += len(padded).to_bytes(3, "big") + b"\x00\x08\x00\x00\x00\x01" + padded
    assert answered(frames) == "1.6.20~ds1"


@pytest.mark.parametrize("end", [TRAILERS, b"\0\0\4\3\0\0\0\0\1\0\0\0\2", b"\0\0\0\7\0\0\0\0\0"], ids=str)
def test_a_call_that_ends_without_an_answer_is_not_waited_for(end: bytes) -> None:
    with pytest.raises(ValueError, match="ended without"):
        answered(end)


@pytest.mark.parametrize("given", [b"", b"x" * 70_000], ids=["nothing", "more than a pipe holds"])
def test_the_standard_input_is_read_to_its_end(given: bytes) -> None:
    program = "import sys; from workers.host.shim.caller import given; sys.stdout.buffer.write(given())"
    done = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, check=True, timeout=30)
    assert done.stdout == given


@pytest.mark.parametrize("closed", [False, True], ids=["a person's", "none"])
def test_what_a_person_types_is_not_waited_for(closed: bool) -> None:
    program = "import os, sys\nif sys.argv[1:]: os.close(0)\nfrom workers.host.shim.caller import given\nprint(given())"
    primary, terminal = os.openpty()
    try:
        words = [sys.executable, "-c", program, *(["closed"] if closed else [])]
        done = subprocess.run(words, stdin=terminal, capture_output=True, check=True, timeout=30)
    finally:
        os.close(primary)
        os.close(terminal)
    assert done.stdout == b"b''\n"
