"""The attested channel on a blocking socket, for the boot init: it forks later, so it starts no loop and no thread.

Frames as in `channel`. Every wait is bounded by the socket's own timeout. Failures are those of `channel`.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Self

from orchestrator.faults import Code, Permanent, Temporary
from workers.enclave.tee.handshake import ANSWER_BYTES, CONFIRMATION_BYTES, Initiator
from workers.enclave.tee.record import LENGTH_BYTES, Session

if TYPE_CHECKING:
    from workers.enclave.tee.interface import Tee
    from workers.enclave.tee.judge import Judge


class BlockingChannel:
    """Messages to and from the agent that attested itself. Not for several threads."""

    __slots__ = ("_connection", "_session")

    def __init__(self, connection: socket.socket, session: Session) -> None:
        """Use `attest_to`."""
        self._connection = connection
        self._session = session

    @classmethod
    def attest_to(cls, connection: socket.socket, tee: Tee, judge: Judge) -> Self:
        """As the initiator: attest to whoever is at the other end, and be attested to."""
        try:
            initiator = Initiator(tee, judge)
            _write(connection, initiator.hello())
            _write(connection, initiator.prove(_read_frame(connection, ANSWER_BYTES)))
            return cls(connection, initiator.finish(_read_frame(connection, CONFIRMATION_BYTES)))
        except (OSError, EOFError) as error:
            raise _away(error) from error

    def send(self, message: bytes) -> None:
        """Send one message, at most 1 MiB."""
        try:
            self._connection.sendall(self._session.seal(message))
        except OSError as error:
            raise _away(error) from error

    def receive(self) -> bytes:
        """The agent's next message."""
        try:
            header = _read(self._connection, LENGTH_BYTES)
            return self._session.open(header, _read(self._connection, self._session.record_length(header)))
        except (OSError, EOFError) as error:
            raise _away(error) from error

    def close(self) -> None:
        """End the channel."""
        self._session.kill()
        self._connection.close()


def _write(connection: socket.socket, message: bytes) -> None:
    connection.sendall(struct.pack(">I", len(message)) + message)


def _read_frame(connection: socket.socket, wanted: int) -> bytes:
    (length,) = struct.unpack(">I", _read(connection, LENGTH_BYTES))
    if length != wanted:
        raise Permanent(
            Code.CONFIG_LOCAL_ATTESTATION,
            "local attestation failed: a message has the wrong length",
            expected=f"{wanted} bytes",
            got=f"{length} bytes",
        )
    return _read(connection, wanted)


def _read(connection: socket.socket, length: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < length:
        piece = connection.recv(length - len(pieces))
        if not piece:
            raise EOFError
        pieces += piece
    return bytes(pieces)


def _away(error: Exception) -> Temporary:
    return Temporary(
        Code.CONFIG_LOCAL_ATTESTATION,
        "the pod's agent went away",
        expected="its next message",
        got=type(error).__name__,
        advice="look at the agent's log: it closes the connection when it refuses",
    )
