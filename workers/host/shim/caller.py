"""Who runs us: what containerd says on its standard input to a shim, and what it answers when asked its version.

Peer: containerd api/services/version/v1, over gRPC: HTTP/2 (RFC 9113, section 4) with one literal header block (RFC
7541, section 6.2.2). Read by hand, because a gRPC library costs a start fifty times what the question does.
"""

from __future__ import annotations

import posix
from _socket import AF_UNIX, socket

_METHOD = b"/containerd.services.version.v1.Version/Version"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS, _PADDED = 1, 4, 8
_HEADER = 9
_PREFIX = 5
_SECONDS = 3.0
_MOST = 1 << 16
_MOST_GIVEN = 10 << 20
_VERSION_FIELD = 0x0A


def given() -> bytes:
    """Our standard input to its end; nothing where it is a person's. containerd closes what it writes."""
    read = b""
    try:
        while not posix.isatty(0) and len(read) < _MOST_GIVEN and (more := posix.read(0, _MOST)):
            read += more
    except OSError:
        return b""
    return read


def version_of(address: str) -> str:
    """What the containerd that serves gRPC at `address` says that it is; empty where it does not say."""
    client = socket(AF_UNIX)
    try:
        client.settimeout(_SECONDS)
        client.connect(address.removeprefix("unix://"))
        client.sendall(question())
        return _read(client)
    except (OSError, ValueError, IndexError):
        return ""
    finally:
        client.close()


def question() -> bytes:
    """Everything that a client has to say for one call without arguments."""
    headers = b"\x83\x86" + _literal(4, _METHOD) + _literal(1, b"localhost")
    headers += _literal(31, b"application/grpc") + b"\0" + _text(b"te") + _text(b"trailers")
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_DATA, _END_STREAM, 1, b"\0" * _PREFIX)
    )


def answered(received: bytes) -> str | None:
    """The version in what a server has sent so far; None while it is not there. Raises ValueError where it never is."""
    message, position = b"", 0
    while position + _HEADER <= len(received):
        length = int.from_bytes(received[position : position + 3], "big")
        kind, flags = received[position + 3], received[position + 4]
        body = received[position + _HEADER : position + _HEADER + length]
        position += _HEADER + length
        if len(body) < length:
            break
        if kind == _DATA:
            message += body[1 : len(body) - body[0]] if flags & _PADDED else body
            wanted = _PREFIX + int.from_bytes(message[1:_PREFIX], "big")
            if len(message) >= max(wanted, _PREFIX):
                return _version(message[_PREFIX:wanted])
        elif kind in {_RESET, _GOAWAY} or (kind == _HEADERS and flags & _END_STREAM):
            raise ValueError("the call ended without an answer")
    return None


def _version(message: bytes) -> str:
    """The first field of a VersionResponse: a text of less than 128 bytes."""
    if len(message) < 2 or message[0] != _VERSION_FIELD or message[1] >= 0x80:
        raise ValueError("no version is told")
    return message[2 : 2 + message[1]].decode()


def _read(client: socket) -> str:
    received = b""
    while len(received) < _MOST and (more := client.recv(4096)):
        received += more
        version = answered(received)
        if version is not None:
            return version
    return ""


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def _literal(name: int, value: bytes) -> bytes:
    """A header field by its name's place in the static table, not to be remembered."""
    index = bytes((name,)) if name < 15 else bytes((15, name - 15))
    return index + _text(value)


def _text(value: bytes) -> bytes:
    return bytes((len(value),)) + value
