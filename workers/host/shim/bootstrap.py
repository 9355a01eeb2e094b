"""Which version of the Task service a new shim is spoken to with, and how `start` says so.

    containerd      is told by                                  answer
    1.6, 1.7        its Version service                         the address alone: version 2; nothing else is taken
    2.0 to 2.2      its Version service                         JSON: version 3
    2.3 and later   BootstrapParams on our standard input       JSON: version 3

Everything else is the same from all of them, MAX_SHIM_VERSION=2 included, so the daemon itself is asked. Where it does
not say, and where a shim serves the pod already, the answer is the address alone: every containerd takes that, and a
pod goes on as it began. Peer: containerd 1.7 runtime/v2/shim.go and 2.x core/runtime/v2/shim.go, parseStartResponse;
pkg/shim/compat.go. See docs/adr/0016.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing costs a start as much as pathlib
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.host.shim.arguments import Arguments

FIRST = 2
SANDBOXED = 3
"""`start` runs once a pod: its containers arrive at the shim that serves it, as Create."""
_INSTANCE_ID, _NAMESPACE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def version_for(arguments: Arguments, given: bytes, ask: Callable[[str], str]) -> int:
    """The version to answer. `given` is our standard input; `ask` tells a daemon's version by its address."""
    if _is_params_of(given, arguments):
        return SANDBOXED
    major, dot, _ = ask(arguments.address).removeprefix("v").partition(".")
    return SANDBOXED if dot and major.isdecimal() and int(major) >= SANDBOXED - 1 else FIRST


def answer(address: str, version: int) -> bytes:
    """What `start` prints. An address that JSON would have to escape is told alone: it cannot be told otherwise."""
    if version < SANDBOXED or '"' in address or "\\" in address or not address.isprintable():
        return address.encode()
    return f'{{"version":{version},"address":"{address}","protocol":"ttrpc"}}'.encode()


def _is_params_of(given: bytes, arguments: Arguments) -> bool:
    """Whether that is a BootstrapParams for this start.

    Before 2.3 runtime options come there, an Any, which has the same two first fields. So they have to be what the
    command line says.
    """
    try:
        fields = dict(_texts(given))
    except (IndexError, ValueError):
        return False
    wanted = (arguments.id.encode(), arguments.namespace.encode())
    return (fields.get(_INSTANCE_ID), fields.get(_NAMESPACE)) == wanted


def _texts(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message. Raises IndexError, ValueError where it is none."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            _, position = _varint(message, position)
        elif kind in {_FIXED32, _FIXED64}:
            position += 4 if kind == _FIXED32 else 8
        elif kind == _BYTES:
            length, position = _varint(message, position)
            yield tag >> 3, message[position : position + length]
            position += length
        else:
            raise ValueError("not a field")
    if position > len(message):
        raise ValueError("the last field is cut off")


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
