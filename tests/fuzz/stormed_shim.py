"""One real shim process under a storm: started as containerd starts it, measured from outside, its events kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from google.protobuf.empty_pb2 import Empty

from orchestrator.faults import Fault
from schemas.containerd import events_pb2, forward_pb2
from schemas.containerd import task_pb2 as pb
from tests.simulators.ttrpc_client import Client
from workers.host.shim.serve import TTRPC_ADDRESS
from workers.host.shim.ttrpc.server import Method, Server

_SHIM: Final = (sys.executable, "-c", "from workers.host.shim.main import main; main()")
_FORWARD: Final = "containerd.services.events.ttrpc.v1.Events/Forward"
_LETTERS: Final = {"TaskCreate": "c", "TaskStart": "s", "TaskExit": "e", "TaskDelete": "d"}
IN_ORDER: Final = re.compile("(c?s?e?d)*(c?s?e?)")
"""Lives of one id, each told in order: created, started, exited, deleted. A launch that fails is told in part."""

_LOG: Final = 200
_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Size:
    """What a process holds. `anonymous` memory is in KiB: what it has written, shared with its zygote or not."""

    descriptors: int
    threads: int
    children: int
    anonymous: int

    def held(self) -> tuple[int, int, int]:
        """What is counted in pieces, and comes back to what it was."""
        return self.descriptors, self.threads, self.children


@dataclass
class Events:
    """containerd's end: each id's events, a letter each, in the order in which they came."""

    told: dict[str, str] = field(default_factory=lambda: defaultdict(str))

    async def forward(self, request: forward_pb2.ForwardRequest) -> Empty:
        name = request.envelope.event.type_url.rpartition(".")[2]
        if name in _LETTERS:
            event = getattr(events_pb2, name).FromString(request.envelope.event.value)
            self.told[event.container_id] += _LETTERS[name]
        return Empty()

    def out_of_order(self) -> dict[str, str]:
        return {id_: told for id_, told in self.told.items() if not IN_ORDER.fullmatch(told)}


class StormedShim:
    """Make it with `started`."""

    def __init__(self, address: str, log: int) -> None:
        self.path = address.removeprefix("unix://")
        self.events = Events()
        self.pid = 0
        self._process = -1
        self._log_end = log
        self._lines: list[str] = []

    async def call(self, name: str, request: pb.ConnectRequest, reply: type[pb.ConnectResponse]) -> pb.ConnectResponse:
        """One call on a connection of its own, as `Client.call`."""
        async with Client(self.path) as client:
            return await client.call(f"containerd.task.v2.Task/{name}", request, reply, seconds=_SECONDS)

    def hold(self, pid: int) -> None:
        """The process is `pid`, and no other that may have that number later."""
        self.pid, self._process = pid, os.pidfd_open(pid)

    def alive(self) -> bool:
        return not select.select([self._process], [], [], 0)[0]

    def kill(self) -> None:
        """kill -9, if it still runs."""
        if self._process >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            os.close(self._process)

    def size(self) -> Size:
        status = Path(f"/proc/{self.pid}/status").read_text()
        values = {
            key: value.split()[0]
            for key, _, value in (line.partition(":") for line in status.splitlines())
            if value.split()
        }
        descriptors = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        children = [path.read_text().split() for path in Path(f"/proc/{self.pid}/task").glob("*/children")]
        return Size(descriptors, int(values["Threads"]), sum(map(len, children)), int(values["RssAnon"]))

    def log(self) -> list[str]:
        """The last lines that it has logged; read often, because a full FIFO loses what is logged."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._log_end, 1 << 20):
                self._lines = (self._lines + data.decode(errors="replace").splitlines())[-_LOG:]
        return self._lines

    def defects(self) -> list[str]:
        return [line for line in self.log() if '"error"' in line and "defect" in line]


@asynccontextmanager
async def started(folder: Path, bundle: Path, pod: str, environment: Mapping[str, str]) -> AsyncIterator[StormedShim]:
    """A shim for `pod`, whose sandbox's bundle is `bundle`; ended, if it still runs. `folder` has a short path."""
    events = folder / f"{pod[-20:]}.events"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(events))
        listener.listen(8)
        os.mkfifo(bundle / "log")
        log = os.open(bundle / "log", os.O_RDWR | os.O_NONBLOCK)
        shim = None
        serving = None
        try:
            address = await asyncio.to_thread(_start, folder, bundle, pod, {**environment, TTRPC_ADDRESS: str(events)})
            shim = StormedShim(address, log)
            serving = asyncio.create_task(
                Server(listener, {_FORWARD: Method(forward_pb2.ForwardRequest, shim.events.forward)}).run()
            )
            try:
                shim.hold((await shim.call("Connect", pb.ConnectRequest(id=pod), pb.ConnectResponse)).shim_pid)
            except Fault as fault:
                raise AssertionError(f"the shim does not serve: {shim.log()}") from fault
            yield shim
        finally:
            if shim is not None:
                shim.kill()
            if serving is not None:
                serving.cancel()
                await asyncio.wait([serving])
            os.close(log)


def delete(folder: Path, bundle: Path, pod: str, environment: Mapping[str, str]) -> pb.DeleteResponse:
    """What containerd runs when the connection to a shim has closed: it removes what the shim could not."""
    return pb.DeleteResponse.FromString(_run("delete", folder, bundle, pod, environment))


def _start(folder: Path, bundle: Path, pod: str, environment: Mapping[str, str]) -> str:
    return _run("start", folder, bundle, pod, environment).decode()


def _run(action: str, folder: Path, bundle: Path, pod: str, environment: Mapping[str, str]) -> bytes:
    flags = ("-namespace", "k8s.io", "-address", str(folder / "c.sock"), "-publish-binary", "containerd", "-id", pod)
    command = (*_SHIM, *flags, action)
    return subprocess.run(
        command,
        cwd=bundle,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=_SECONDS,
    ).stdout
