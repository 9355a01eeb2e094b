"""The wire between a node's host worker and a boot init, for commands beside a workload.

Zone: any. May import: `schemas.strict_json`, the standard library.

A Unix socket of packets (SOCK_SEQPACKET), made by boot init at `EXEC_DOOR` in its container; one request and one reply
for each connection. Both are JSON objects of at most `MAX_PACKET` bytes. The host is a stranger to boot init: what it
sends is a request, judged by the owner's policy, and whoever can connect may ask.

| ask | members | with it | reply |
|---|---|---|---|
| start | args, terminal | 3 descriptors: standard input, output, error | pid, in boot init's namespace, and its pidfd |
| wait | | | status, at_ns, once it has ended |
| signal | number | | |
| resize | rows, columns | | |
| forget | | | |

Every request also names the container that it means, by containerd's id, and the command, by containerd's id of it;
`resize` without a command is of the workload's own terminal.
Each may be asked again; a command that is known is not started twice. A refusal is a reply with `refused`: the code,
message, expected, got and advice of a fault.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Final, TypeAlias

from schemas import strict_json

MAX_PACKET: Final = 128 * 1024
"""Bytes: what the kernel takes in one piece without being told otherwise; an argument list of a person is shorter."""

STREAMS: Final = 3


@dataclass(frozen=True, slots=True)
class Start:
    """Start a command."""

    container: str
    exec: str
    args: tuple[str, ...]
    terminal: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for its end."""

    container: str
    exec: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Send it a signal."""

    container: str
    exec: str
    number: int


@dataclass(frozen=True, slots=True)
class Resize:
    """Its terminal has another size; where `exec` is empty, the workload's."""

    container: str
    exec: str
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Its status was taken; fine for one that nobody knows."""

    container: str
    exec: str


Request: TypeAlias = Start | Wait | Signal | Resize | Forget


@dataclass(frozen=True, slots=True)
class Done:
    """The reply to what was done; members that the request has no use for are 0."""

    pid: int = 0
    status: int = 0
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The reply to what was not. `code` is one of orchestrator/faults.py."""

    code: str
    message: str
    expected: str = ""
    got: str = ""
    advice: str = ""


_REQUESTS: Final[dict[str, type[Request]]] = {
    "start": Start,
    "wait": Wait,
    "signal": Signal,
    "resize": Resize,
    "forget": Forget,
}
_NAMES: Final = {request: name for name, request in _REQUESTS.items()}


def encode_request(request: Request) -> bytes:
    """One packet. Raises `Malformed` for one that is too long."""
    return _packet({"ask": _NAMES[type(request)], **dataclasses.asdict(request)})


def decode_request(packet: bytes) -> Request:
    """Raises `Malformed`."""
    members = strict_json.parse_object(packet)
    ask = strict_json.text(members, "ask")
    if ask not in _REQUESTS:
        raise strict_json.Malformed("ask: an unknown request")
    kind = _REQUESTS[ask]
    strict_json.only(members, "ask", *(part.name for part in dataclasses.fields(kind)))
    of_whom = strict_json.text(members, "container"), strict_json.text(members, "exec")
    if kind is Start:
        terminal = members.get("terminal")
        if not isinstance(terminal, bool):
            raise strict_json.Malformed("terminal: true or false is expected")
        return Start(*of_whom, strict_json.strings(members, "args"), terminal)
    if kind is Signal:
        return Signal(*of_whom, _small(members, "number", 64))
    if kind is Resize:
        return Resize(*of_whom, _small(members, "rows", 0xFFFF), _small(members, "columns", 0xFFFF))
    return Wait(*of_whom) if kind is Wait else Forget(*of_whom)


def encode_reply(reply: Done | Refused) -> bytes:
    """One packet."""
    if isinstance(reply, Done):
        return _packet(dataclasses.asdict(reply))
    return _packet({"refused": {name: text[:4096] for name, text in dataclasses.asdict(reply).items()}})


def decode_reply(packet: bytes) -> Done | Refused:
    """Raises `Malformed`."""
    members = strict_json.parse_object(packet)
    if "refused" in members:
        refused = strict_json.nested(members, "refused")
        return Refused(*(strict_json.text(refused, part.name) for part in dataclasses.fields(Refused)))
    return Done(*(strict_json.integer(members, part.name) for part in dataclasses.fields(Done)))


def _packet(members: dict[str, object]) -> bytes:
    packet = json.dumps(members).encode()
    if len(packet) > MAX_PACKET:
        raise strict_json.Malformed(f"{len(packet)} bytes do not fit a packet")
    return packet


def _small(members: strict_json.JsonObject, name: str, most: int) -> int:
    value = strict_json.integer(members, name)
    if not 0 <= value <= most:
        raise strict_json.Malformed(f"{name}: a number up to {most} is expected")
    return value
