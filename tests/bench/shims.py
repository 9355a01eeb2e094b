"""Two shims side by side: containerd's own and ours, each asked and measured the same way.

A shim is found by the address that containerd keeps in the task's bundle, asked over a plain blocking socket with a
request that was written down before (a client's own cost would make two servers look alike), and weighed by what the
kernel says of its process.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message

from schemas.containerd import task_pb2 as pb
from schemas.containerd import ttrpc_pb2
from workers.host.shim.ttrpc.frame import REQUEST, encode

SECONDS = 30.0
_HEADER = struct.Struct(">IIBB")


@dataclass(frozen=True, slots=True)
class Weight:
    """Memory of one process in KiB: resident, and its share of it."""

    rss: int
    pss: int


class Caller:
    """A connection to a shim. A call that is answered by a status raises AssertionError."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(SECONDS)
        path = address.strip().removeprefix("unix://")
        self._socket.connect(path)
        self._streams = itertools.count(1, 2)

    def close(self) -> None:
        self._socket.close()

    def call(self, method: str, request: Message) -> bytes:
        return self.send(self.prepare(method, request))

    def tell(self, method: str, request: Message) -> None:
        """A call whose answer nobody waits for."""
        self._socket.sendall(self.prepare(method, request))

    def prepare(self, method: str, request: Message) -> bytes:
        """A frame to `send`, once."""
        payload = request.SerializeToString()
        envelope = ttrpc_pb2.Request(service="containerd.task.v2.Task", method=method, payload=payload)
        return encode(next(self._streams), REQUEST, envelope.SerializeToString())

    def send(self, frame: bytes) -> bytes:
        self._socket.sendall(frame)
        length = _HEADER.unpack(self._receive(_HEADER.size))[0]
        response = ttrpc_pb2.Response.FromString(self._receive(length))
        assert not response.status.code, response.status.message
        return response.payload

    def took(self, frame: bytes) -> float:
        """Seconds from the request's first byte to the answer's last."""
        began = time.perf_counter()
        self._socket.sendall(frame)
        length = _HEADER.unpack(self._receive(_HEADER.size))[0]
        answer = self._receive(length)
        seconds = time.perf_counter() - began
        response = ttrpc_pb2.Response.FromString(answer)
        assert not response.status.code, response.status.message
        return seconds

    def _receive(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            chunk = self._socket.recv(count - len(received))
            assert chunk, "the shim has closed the connection"
            received += chunk
        return received


@contextmanager
def called(address: str) -> Iterator[Caller]:
    """A caller, closed afterwards."""
    caller = Caller(address)
    try:
        yield caller
    finally:
        caller.close()


def pid_of(address: str, id_: str) -> int:
    """The process that serves `address`."""
    with called(address) as caller:
        return pb.ConnectResponse.FromString(caller.call("Connect", pb.ConnectRequest(id=id_))).shim_pid


def weigh(pid: int) -> Weight:
    """Now."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    sizes = {words[0]: int(words[1]) for words in lines if words[0] in {"Rss:", "Pss:"}}
    return Weight(sizes["Rss:"], sizes["Pss:"])


def start(program: str, bundle: Path, containerd: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """Seconds of one `start`, and until its shim has answered a first call. The shim is ended again."""
    id_ = bundle.name
    os.mkfifo(bundle / "log")
    log = os.open(bundle / "log", os.O_RDWR | os.O_NONBLOCK)
    words = (program, "-namespace", "bench", "-address", str(containerd), "-publish-binary", "/bin/true", "-id", id_)
    began = time.perf_counter()
    done = subprocess.run(
        (*words, "start"),
        cwd=bundle,
        env=environment,
        check=True,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    started = time.perf_counter() - began
    with called(done.stdout.decode()) as caller:
        pid = pb.ConnectResponse.FromString(caller.call("Connect", pb.ConnectRequest(id=id_))).shim_pid
        answered = time.perf_counter() - began
        caller.tell("Shutdown", pb.ShutdownRequest(id=id_, now=True))
    ends = time.monotonic() + SECONDS
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < ends, "the shim does not end"
        time.sleep(0.002)
    os.close(log)
    return started, answered
