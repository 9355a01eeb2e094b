"""The attested channel on an asyncio stream: `accept` in the agent, and `connect`, its other end. The boot init is no
loop's and has `blocking`.

Handshake messages travel in frames too: a 4-byte big-endian length, which must be exactly the one expected at that
point. How long to wait is the caller's business (`asyncio.timeout`); when anything fails, or the caller gives up, the
stream is closed, so that the peer learns of it at once. Failures are `Permanent`: CONFIG_LOCAL_ATTESTATION, or whatever
`judge` raises. A peer that goes away between messages is `Temporary(CONFIG_LOCAL_ATTESTATION)`.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.faults import Code, Permanent, Temporary
from workers.enclave.tee.handshake import (
    ANSWER_BYTES,
    CONFIRMATION_BYTES,
    HELLO_BYTES,
    PROOF_BYTES,
    Initiator,
    Responder,
)
from workers.enclave.tee.record import LENGTH_BYTES, Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.sgx import ReportBody
    from workers.enclave.tee.interface import Tee
    from workers.enclave.tee.judge import Judge


class SecureChannel:
    """Messages between two enclaves that attested each other. One coroutine sends and one receives at a time."""

    __slots__ = ("_reader", "_session", "_writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: Session) -> None:
        """Use `connect` or `accept`."""
        self._reader = reader
        self._writer = writer
        self._session = session

    @property
    def peer(self) -> ReportBody:
        """The peer's identity, as its CPU reported and the judge accepted it."""
        return self._session.peer

    async def send(self, message: bytes) -> None:
        """Send one message, at most 1 MiB. That it returned does not say that the peer has it."""
        with _closing_on_failure(self._writer):
            self._writer.write(self._session.seal(message))
            await self._writer.drain()

    async def receive(self) -> bytes:
        """The peer's next message. The end of the stream is a fault: whoever waits for a message was promised one."""
        with _closing_on_failure(self._writer):
            header = await self._reader.readexactly(LENGTH_BYTES)
            ciphertext = await self._reader.readexactly(self._session.record_length(header))
            return self._session.open(header, ciphertext)

    def close(self) -> None:
        """End the channel. Call it always; the peer's next `receive` fails."""
        self._session.kill()
        self._writer.close()


async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tee: Tee, judge: Judge) -> SecureChannel:
    """As the initiator: attest to whoever is at the other end, and be attested to."""
    with _closing_on_failure(writer):
        initiator = Initiator(tee, judge)
        await _write(writer, await asyncio.to_thread(initiator.hello))
        answer = await _read(reader, ANSWER_BYTES)
        await _write(writer, await asyncio.to_thread(initiator.prove, answer))
        return SecureChannel(reader, writer, initiator.finish(await _read(reader, CONFIRMATION_BYTES)))


async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tee: Tee, judge: Judge) -> SecureChannel:
    """As the responder: one handshake with whoever connected."""
    with _closing_on_failure(writer):
        responder = Responder(tee, judge)
        hello = await _read(reader, HELLO_BYTES)
        await _write(writer, await asyncio.to_thread(responder.answer, hello))
        confirmation, session = await asyncio.to_thread(responder.finish, await _read(reader, PROOF_BYTES))
        await _write(writer, confirmation)
        return SecureChannel(reader, writer, session)


async def _write(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(struct.pack(">I", len(message)) + message)
    await writer.drain()


async def _read(reader: asyncio.StreamReader, wanted: int) -> bytes:
    (length,) = struct.unpack(">I", await reader.readexactly(LENGTH_BYTES))
    if length != wanted:
        raise Permanent(
            Code.CONFIG_LOCAL_ATTESTATION,
            "local attestation failed: a message has the wrong length",
            expected=f"{wanted} bytes",
            got=f"{length} bytes",
        )
    return await reader.readexactly(wanted)


@contextmanager
def _closing_on_failure(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError) as error:
        writer.close()
        raise Temporary(
            Code.CONFIG_LOCAL_ATTESTATION,
            "the peer enclave went away",
            expected="its next message",
            got=type(error).__name__,
            advice="look at the peer's own fault: it closes the connection when it refuses",
        ) from error
    except BaseException:
        writer.close()
        raise
