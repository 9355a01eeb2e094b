"""A pod's life played in the zygote, before it forks: its shims then begin with what it has touched, and share it.

What runs for the first time writes into the interpreter's own memory (caches in code, methods looked up, classes made,
modules imported late), and each shim would have a copy of every page of that: 0.8 MB (docs/adr/0015).

Everything is real but the other ends: a worker that answers every question with nothing, and a containerd that takes
every event. Nothing is left of it.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from schemas import pod_pb2
from schemas.containerd import forward_pb2
from schemas.containerd import task_pb2 as pb
from workers.host.shim.line_pod import ASK, LinePod
from workers.host.shim.loop import Event, Loop
from workers.host.shim.publisher import FORWARD, Publisher
from workers.host.shim.task import SERVICE, TaskService
from workers.host.shim.ttrpc.answers import Method
from workers.host.shim.ttrpc.loop_client import LoopClient
from workers.host.shim.ttrpc.loop_server import LoopServer

_TURNS: Final = 16
"""The interpreter rewrites what has run eight times."""


def rehearse(folder: Path) -> None:
    """Play it in `folder`, which is made and removed."""
    with ExitStack() as left:
        folder.mkdir(mode=0o700, exist_ok=True)
        left.callback(folder.rmdir)
        bundles = {}
        for kind in ("sandbox", "container"):
            bundles[kind] = _bundle(folder / kind, kind)
            left.callback(_remove, folder / kind)
        sockets = {name: _listener(folder / name, left) for name in ("shim", "worker")}
        loop = Loop()
        loop.run(_play(loop, sockets, bundles))


async def _play(loop: Loop, sockets: dict[str, socket], bundles: dict[str, str]) -> None:
    ends = {ASK: Method(pod_pb2.PodRequest, _Worker().answer), FORWARD: Method(forward_pb2.ForwardRequest, _taken)}
    behind = LoopServer(loop, sockets["worker"], ends, _unheard)
    address = sockets["worker"].getsockname()
    publisher = Publisher(loop, address, "rehearsal")
    pod = LinePod(loop, "sandbox", lambda: str(address))
    service = TaskService("sandbox", pod, publisher, loop)
    for run in (pod.run(), publisher.run()):
        loop.create_task(run)
    served = LoopServer(loop, sockets["shim"], service.methods(), _unheard)
    client = LoopClient(loop, sockets["shim"].getsockname())

    async def ask(name: str, request: Message, reply: type[Message] = Empty) -> None:
        await client.call(f"{SERVICE}/{name}", request, reply, seconds=60)

    for _ in range(_TURNS):
        await ask("Connect", pb.ConnectRequest(id="sandbox"), pb.ConnectResponse)
        for id_, bundle in bundles.items():
            await ask("Create", pb.CreateTaskRequest(id=id_, bundle=bundle), pb.CreateTaskResponse)
            await ask("Start", pb.StartRequest(id=id_), pb.StartResponse)
            await ask("State", pb.StateRequest(id=id_), pb.StateResponse)
        for id_ in reversed(bundles):
            await ask("Kill", pb.KillRequest(id=id_, signal=9))
            await ask("Wait", pb.WaitRequest(id=id_), pb.WaitResponse)
            await ask("State", pb.StateRequest(id=id_), pb.StateResponse)
            await ask("Delete", pb.DeleteRequest(id=id_), pb.DeleteResponse)
    await publisher.drain()
    client.close()
    for server in (served, behind):
        server.close()


class _Worker:
    """Answers with nothing; what runs ends when it is sent a signal."""

    def __init__(self) -> None:
        self._ended: dict[str, Event] = {}

    async def answer(self, request: pod_pb2.PodRequest) -> pod_pb2.PodReply:
        kind = request.WhichOneof("ask")
        if kind == "signal":
            self._ended.setdefault(request.container, Event()).set()
        if kind == "exit_of":
            await self._ended.setdefault(request.container, Event()).wait()
            del self._ended[request.container]
        return pod_pb2.PodReply(pid=os.getpid())


async def _taken(_: forward_pb2.ForwardRequest) -> Empty:
    return Empty()


def _unheard(*_: object) -> None:
    pass


def _bundle(path: Path, id_: str) -> str:
    path.mkdir(mode=0o700, exist_ok=True)
    (path / "rootfs").mkdir(exist_ok=True)
    annotations = {"io.kubernetes.cri.container-type": id_, "io.kubernetes.cri.sandbox-id": "sandbox"}
    document = {"annotations": annotations, "process": {"args": ["true"], "env": [], "cwd": "/", "user": {"uid": 0}}}
    (path / "config.json").write_text(json.dumps(document))
    return str(path)


def _remove(path: Path) -> None:
    for file in path.iterdir():
        file.rmdir() if file.is_dir() else file.unlink()
    path.rmdir()


def _listener(path: Path, left: ExitStack) -> socket:
    path.unlink(missing_ok=True)
    listener = socket(AF_UNIX)
    left.callback(path.unlink)
    left.callback(listener.close)
    listener.bind(str(path))
    listener.listen(8)
    return listener
