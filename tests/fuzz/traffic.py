"""What is sent to a stormed shim, drawn from a seed: scripts of one connection each.

A lawful script consists of whole frames: each request in it must be answered exactly once, whatever it says. A lawless
one breaks off, lies about lengths, or is noise: it may be answered by anything or nothing.

Calls are made for every RPC that the service declares, its messages filled from their descriptors: one that is added
to schemas/containerd/task.proto is stormed without a change here.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from schemas.containerd import task_pb2, ttrpc_pb2, types_pb2

SERVICE: Final = task_pb2.DESCRIPTOR.services_by_name["Task"]
RPCS: Final = {rpc.name: GetMessageClass(rpc.input_type) for rpc in SERVICE.methods}
CALLS: Final = ("Create", "Start", "State", "Kill", "Delete", "Wait", "Pids", "Stats", "Connect")
"""What makes histories move; drawn oftener than the rest."""

QUESTIONS: Final = ("Start", "State", "Wait", "Pids", "Stats", "Connect")
"""What may be altered byte by byte: a Create could become a mount of anything, a Kill one of the pod."""

_COMMAND: Final = Any(
    type_url="types.containerd.io/opencontainers/runtime-spec/1/Process", value=b'{"args": ["/bin/true"], "cwd": "/"}'
)
_LIMITS: Final = Any(
    type_url="types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", value=b'{"memory": {"limit": 1048576}}'
)
REQUEST: Final = 1
_HEADER: Final = struct.Struct(">IIBB")
_MAX_DATA: Final = 4 << 20
_ODD_IDS: Final = ("", " ", ".", "..", "../../etc", "a/b", "*", ">", "ü", "\0", "x" * 129, "x" * 70_000)
_ODD_NUMBERS: Final = (0, 1, 2**31 - 1, 2**31, 2**32 - 1)
_SIGNED: Final = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
_SIGNALS: Final = (0, 1, 9, 15, 15, 9, 10, 64, 65, 2**32 - 1)


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes to write in pieces of `piece`; then, if `awaited`, the answers on `streams` are read before going on.

    `asked` says what each of the streams asks, for whoever has to find out why it was not answered.
    """

    data: bytes
    streams: tuple[int, ...] = ()
    asked: tuple[str, ...] = ()
    awaited: bool = False
    piece: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Script:
    """One connection. `reads` false: nothing that comes back is read until all is written."""

    steps: tuple[Step, ...]
    lawful: bool
    reads: bool = True


@dataclass(frozen=True, slots=True)
class Stage:
    """What may be named in a round: ids, bundles; and whether the sandbox is to stay, and so its shim."""

    pod: str
    containers: Sequence[str]
    bundles: dict[str, Path]
    mountable: Path
    steady: bool


class Traffic:
    """Scripts for one round."""

    def __init__(self, chance: random.Random, stage: Stage) -> None:
        self._chance = chance
        self._stage = stage

    def scripts(self) -> list[Script]:
        """Some callers, and mostly somebody who breaks the rules."""
        made = [self._lawful() for _ in range(self._chance.randint(2, 5))]
        made += [self._lawless() for _ in range(self._chance.randint(0, 2))]
        return made

    def _lawful(self) -> Script:
        steps, stream = [], 1
        for _ in range(self._chance.randint(10, 60)):
            if self._chance.random() < (0.08 if self._stage.steady else 0.2):
                calls = self._life()
                steps += [
                    Step(frame(stream + 2 * place, REQUEST, data), (stream + 2 * place,), (said(data),), awaited=True)
                    for place, data in enumerate(calls)
                ]
                stream += 2 * len(calls)
            requests = [self._envelope() for _ in range(self._chance.choice((1, 1, 1, 1, 2, 3, 8)))]
            streams = tuple(self._stream(stream + 2 * place) for place in range(len(requests)))
            stream += 2 * len(requests)
            frames = [frame(number, REQUEST, data) for number, (data, _) in zip(streams, requests, strict=True)]
            if self._chance.random() < 0.1:
                frames.insert(0, self._no_request())
            bounded = all(ends for _, ends in requests)
            piece = self._chance.choice((1 << 20, 1 << 20, 1 << 20, 7, 1))
            awaited = bounded and self._chance.random() < 0.7
            asked = tuple(said(data) for data, _ in requests)
            steps.append(Step(b"".join(frames), streams, asked, awaited, piece))
        if self._chance.random() < 0.02:
            size = _MAX_DATA + self._chance.randint(1, 100)
            steps.append(Step(frame(stream, REQUEST, bytes(size)), (stream,), ("too much",), awaited=True))
        return Script(tuple(steps), lawful=True, reads=self._chance.random() < 0.9)

    def _lawless(self) -> Script:
        whole = b"".join(frame(2 * place + 1, REQUEST, self._envelope()[0]) for place in range(10))
        harmless = b"".join(frame(2 * place + 1, REQUEST, self._question()) for place in range(10))
        kinds = ("noise", "cut", "length", "altered", "silence", "crowd")
        kind = self._chance.choice(kinds[:-1] if self._stage.steady else kinds)
        if kind == "noise":
            data = self._chance.randbytes(self._chance.randint(1, 5_000))
        elif kind == "cut":
            data = whole[: self._chance.randrange(len(whole))]
        elif kind == "length":
            # More is promised than will ever come.
            data = _HEADER.pack(self._chance.choice((2**32 - 1, _MAX_DATA, _MAX_DATA + 1)), 1, REQUEST, 0) + whole
        elif kind == "altered":
            data = _altered(self._chance, harmless)
        elif kind == "crowd":
            return crowd()
        else:
            data = b""
        return Script((Step(data, piece=self._chance.choice((1 << 20, 9))),), lawful=False, reads=False)

    def _life(self) -> list[bytes]:
        """What a container's life should be, each call after the answer to the one before; others may disturb it."""
        id_, name, mounts = self._chance.choice(self._stage.containers), f"c{self._chance.randrange(4)}", ()
        if not self._stage.steady and self._chance.random() < 0.5:
            id_, name, mounts = self._stage.pod, "sandbox", tuple(self._mounts())
        bundle = str(self._stage.bundles[name])
        calls = (
            ("Create", task_pb2.CreateTaskRequest(id=id_, bundle=bundle, rootfs=mounts)),
            ("Start", task_pb2.StartRequest(id=id_)),
            ("Stats", task_pb2.StatsRequest(id=id_)),
            *self._beside(id_),
            ("Kill", task_pb2.KillRequest(id=id_, signal=self._chance.choice((9, 15, 0)), all=True)),
            ("Wait", task_pb2.WaitRequest(id=id_)),
            ("Delete", task_pb2.DeleteRequest(id=id_)),
        )
        wanted = calls[: self._chance.randint(1, len(calls))]
        return [
            ttrpc_pb2.Request(
                service=SERVICE.full_name, method=name, payload=message.SerializeToString(), timeout_nano=2 * 10**9
            ).SerializeToString()
            for name, message in wanted
        ]

    def _beside(self, id_: str) -> tuple[tuple[str, Message], ...]:
        """What is done to a container while it runs: a command beside it, a pause, another limit."""
        exec_id = self._chance.choice(("e1", "e2", "e3"))
        ways: tuple[tuple[tuple[str, Message], ...], ...] = (
            (),
            (
                ("Exec", task_pb2.ExecProcessRequest(id=id_, exec_id=exec_id, spec=_COMMAND)),
                ("Start", task_pb2.StartRequest(id=id_, exec_id=exec_id)),
                ("ResizePty", task_pb2.ResizePtyRequest(id=id_, exec_id=exec_id, height=24, width=80)),
                ("Kill", task_pb2.KillRequest(id=id_, exec_id=exec_id, signal=self._chance.choice((9, 15, 0)))),
                ("Wait", task_pb2.WaitRequest(id=id_, exec_id=exec_id)),
                ("Delete", task_pb2.DeleteRequest(id=id_, exec_id=exec_id)),
            ),
            (("Pause", task_pb2.PauseRequest(id=id_)), ("Resume", task_pb2.ResumeRequest(id=id_))),
            (("Update", task_pb2.UpdateTaskRequest(id=id_, resources=_LIMITS)),),
        )
        return self._chance.choice(ways)

    def _stream(self, number: int) -> int:
        return self._chance.choice((0, 2, 1, 2**32 - 1)) if self._chance.random() < 0.03 else number

    def _no_request(self) -> bytes:
        """A frame that asks nothing."""
        return frame(self._chance.choice((0, 1, 7)), self._chance.choice((0, 2, 3, 255)), self._chance.randbytes(20))

    def _envelope(self) -> tuple[bytes, bool]:
        """A request, and whether it is sure to be answered before somebody ends a task."""
        fate = self._chance.random()
        if fate < 0.04:
            return self._chance.randbytes(self._chance.randint(0, 300)), False
        name, payload = self._call()
        service, timeout = SERVICE.full_name, self._timeout(name, payload)
        if fate < 0.08:
            service, name = self._chance.choice((("containerd.task.v9.Task", name), (service, "Nothing"), ("", "")))
        elif fate < 0.14:
            payload = _altered(self._chance, payload) if name in QUESTIONS else self._chance.randbytes(50)
        elif fate < 0.16:
            timeout = 1 if name == "Wait" else self._chance.choice((-1, 2**63 - 1, -(2**63)))
        request = ttrpc_pb2.Request(service=service, method=name, payload=payload, timeout_nano=timeout)
        if 0.16 < fate < 0.18 and name in QUESTIONS:
            return _altered(self._chance, request.SerializeToString()), False
        return request.SerializeToString(), 0 < timeout < 10**11

    def _question(self) -> bytes:
        name = self._chance.choice(QUESTIONS)
        payload = self._filled(RPCS[name]).SerializeToString()
        return ttrpc_pb2.Request(service=SERVICE.full_name, method=name, payload=payload).SerializeToString()

    def _call(self) -> tuple[str, bytes]:
        name = self._chance.choice(CALLS if self._chance.random() < 0.85 else list(RPCS))
        message = self._filled(RPCS[name])
        if isinstance(message, task_pb2.CreateTaskRequest) and self._chance.random() < 0.8:
            self._make_sense(message)
        if self._stage.steady:
            self._let_the_sandbox_live(message)
        return name, message.SerializeToString()

    def _timeout(self, name: str, payload: bytes) -> int:
        """Nanoseconds. Some callers wait for ever: mostly for an exit, but not for that of a sandbox that stays."""
        if name == "Wait" and self._chance.random() < 0.6:
            stays = self._stage.steady and task_pb2.WaitRequest.FromString(payload).id == self._stage.pod
            return 10**9 if stays else 0
        return self._chance.choice((0 if name != "Wait" else 10**9, 10**9, 2 * 10**9, 3 * 10**8, 10**8, 10**6))

    def _make_sense(self, message: task_pb2.CreateTaskRequest) -> None:
        """A container under its own kind of id, without a checkpoint."""
        message.ClearField("checkpoint")
        if self._chance.random() < 0.1:
            message.id, name = self._stage.pod, "sandbox"
        else:
            message.id = self._chance.choice(self._stage.containers)
            name = f"c{self._chance.randrange(4)}"
        message.bundle = str(self._stage.bundles[name])

    def _let_the_sandbox_live(self, message: Message) -> None:
        if isinstance(message, task_pb2.KillRequest) and message.id == self._stage.pod:
            message.signal = 10
        if isinstance(message, task_pb2.ShutdownRequest):
            message.now = False

    # --- messages from their descriptors -----------------------------------------------------------------------------

    def _filled(self, kind: type[Message]) -> Message:
        message = kind()
        for field in kind.DESCRIPTOR.fields:
            if field.name in {"id", "bundle"} or self._chance.random() < 0.6:
                self._fill(message, field)
        return message

    def _fill(self, message: Message, field: FieldDescriptor) -> None:
        if field.name == "rootfs":
            message.rootfs.extend(self._mounts())  # type: ignore[attr-defined]
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            if not field.is_repeated and field.message_type.full_name == "google.protobuf.Any":
                getattr(message, field.name).type_url = self._chance.choice(("", "types.example/Nothing"))
                getattr(message, field.name).value = self._chance.randbytes(self._chance.randint(0, 40))
        elif not field.is_repeated:
            setattr(message, field.name, self._value(field))

    def _value(self, field: FieldDescriptor) -> object:
        named = {
            "id": self._id,
            "exec_id": lambda: self._chance.choice(("",) * 9 + ("e1",)),
            "bundle": lambda: str(self._chance.choice(list(self._stage.bundles.values()))),
            "checkpoint": lambda: self._chance.choice(("", "/nowhere")),
            "signal": lambda: self._chance.choice(_SIGNALS),
        }
        if field.name in named:
            return named[field.name]()
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self._chance.random() < 0.5
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._chance.choice(("", "/dev/null", "/nowhere/fifo", "\0", "ü" * 500))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._chance.randbytes(self._chance.randint(0, 40))
        if field.type == FieldDescriptor.TYPE_ENUM:
            return field.enum_type.values[0].number
        return self._chance.choice(_ODD_NUMBERS[: 3 if field.cpp_type in _SIGNED else None])

    def _id(self) -> str:
        fate = self._chance.random()
        if fate < 0.06:
            return self._chance.choice(_ODD_IDS)
        return self._stage.pod if fate < 0.15 else self._chance.choice(self._stage.containers)

    def _mounts(self) -> Iterator[types_pb2.Mount]:
        for _ in range(self._chance.choice((0, 0, 1, 2))):
            kind, source = self._chance.choice(
                (("tmpfs", "tmpfs"), ("bind", str(self._stage.mountable)), ("no such", "x"), ("bind", "/nowhere"))
            )
            options = self._chance.sample(("ro", "rbind", "nosuid", "size=64k", "what=" + "x" * 5_000), k=2)
            yield types_pb2.Mount(type=kind, source=source, options=options[: self._chance.randint(0, 2)])


def crowd(*, lawful: bool = False) -> Script:
    """More requests at once than anybody sends. Without `lawful` nobody waits for their answers.

    What they needed while they were all there is kept for the next ones, and would hide a leak of as much. So none
    comes while a steady pod's memory is compared round by round; `campaign` sends lawful ones there afterwards.
    """
    request = ttrpc_pb2.Request(service=SERVICE.full_name, method="State").SerializeToString()
    streams = tuple(2 * place + 1 for place in range(2_000))
    data = b"".join(frame(stream, REQUEST, request) for stream in streams)
    if not lawful:
        return Script((Step(data),), lawful=False, reads=False)
    return Script((Step(data, streams, ("State of a crowd",) * len(streams), awaited=True),), lawful=True)


def frame(stream: int, kind: int, data: bytes) -> bytes:
    """A frame, however long."""
    return _HEADER.pack(len(data), stream, kind, 0) + data


def said(data: bytes) -> str:
    """A request in a few words."""
    try:
        request = ttrpc_pb2.Request.FromString(data)
        words = f"{request.method}, {request.timeout_nano} ns"
        return f"{words}: {str(RPCS[request.method].FromString(request.payload))[:300]}"
    except (DecodeError, KeyError):
        return repr(data[:80])


def _altered(chance: random.Random, data: bytes) -> bytes:
    """Some bytes changed, left out or put in."""
    changed = bytearray(data or b"\0")
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        part = slice(place, place + chance.choice((0, 1, 1, 5)))
        changed[part] = chance.randbytes(chance.choice((0, 1, 1, 5)))
    return bytes(changed)
