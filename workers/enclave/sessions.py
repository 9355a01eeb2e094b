"""The app enclaves of this pod that have proved themselves to the agent.

Zone: enclave. May import: `workers.enclave`, `orchestrator.faults`.

Anything in the pod's network may connect; only an enclave whose measurement the owner's launch policy lists gets past
the local attestation, and is then answered for a container that this agent has sealed, once. The host may have started
it for another pod's.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from orchestrator.faults import Code, Fault, Permanent
from schemas.places import AGENT_PORT
from schemas.sgx import ReportBody
from workers.enclave import messages
from workers.enclave.policy_cache import LaunchPolicies
from workers.enclave.tee.channel import SecureChannel, accept
from workers.enclave.tee.interface import Tee
from workers.enclave.work import Works

HANDSHAKE_SECONDS: Final = 20.0
LOOK: Final = 0.5
"""Seconds between two looks at whether a session has ended."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Session:
    """One app enclave at the other end of an attested channel."""

    peer: ReportBody
    channel: SecureChannel


class Sessions:
    """Listens for boot inits and hands each to the step that waits for it."""

    def __init__(self, tee: Tee, policies: LaunchPolicies, works: Works) -> None:
        self._tee = tee
        self._policies = policies
        self._works = works
        self._waiting: dict[tuple[str, int], asyncio.Future[Session]] = {}
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self) -> None:
        """Accept until cancelled."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", AGENT_PORT, limit=1 << 20)
        try:
            await server.serve_forever()
        finally:
            for writer in tuple(self._open):
                writer.close()

    async def wait(self, container: str, attempt: int) -> Session:
        """The session of that container's boot init; the caller's deadline bounds the wait."""
        future = self._future(container, attempt)
        try:
            return await asyncio.shield(future)
        except BaseException:
            self.forget(container, attempt)
            raise

    def forget(self, container: str, attempt: int) -> None:
        """Nobody waits any more."""
        self._waiting.pop((container, attempt), None)

    def _future(self, container: str, attempt: int) -> asyncio.Future[Session]:
        key = (container, attempt)
        if key not in self._waiting:
            for old in [old for old in self._waiting if self._works.get(old[0]) is None]:
                del self._waiting[old]  # its container failed or was removed, which nobody tells
            self._waiting[key] = asyncio.get_running_loop().create_future()
        return self._waiting[key]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self._policies.get()
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                channel = await accept(reader, writer, self._tee, self._policies.judge)
                hello = messages.unpack(await channel.receive(), "hello")
            container, attempt = str(hello.get("container")), hello.get("attempt")
            waiting = self._due(container, attempt if isinstance(attempt, int) else 0)
            if waiting is None:
                await channel.send(_refusal(container))
                return
            waiting.set_result(Session(channel.peer, channel))
            await _until_closed(reader, writer)
        except Permanent as fault:
            await _log.awarning("app enclave refused", diagnosis=fault.diagnostics())
            # Garbage from the pod's network stops nobody; an enclave of another measurement is the host's doing.
            if fault.code is Code.CONFIG_APP_MEASUREMENT:
                self._fail_waiting(fault)
        except (Fault, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            await _log.awarning("app enclave lost", error=type(error).__name__)
        finally:
            self._open.discard(writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _due(self, container: str, attempt: int) -> asyncio.Future[Session] | None:
        """What waits for that container's enclave, or will; None when there is nothing for it here."""
        work = self._works.get(container)
        if work is None or work.sealed is None:
            return None
        waiting = self._future(container, attempt)
        return None if waiting.done() else waiting

    def _fail_waiting(self, fault: Permanent) -> None:
        """An enclave that may not be served did not get to say which container it is; the only one awaited, if one."""
        unserved = [future for future in self._waiting.values() if not future.done()]
        if len(unserved) == 1:
            unserved[0].set_exception(fault)


def _refusal(container: str) -> bytes:
    return messages.pack(
        "refused",
        code=Code.CONFIG_USED.value,
        message="the pod's agent has nothing for this container",
        expected="a container that this agent has sealed and not served yet",
        got=container[:128],
        advice="create the container again; an enclave is for one container of one pod",
    )


async def _until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Keep the connection until either end has ended it, or it broke; the step that has the session reads from it."""
    # The stream is the step's, which alone may wait on it.
    while not (reader.at_eof() or reader.exception() or writer.is_closing()):  # noqa: ASYNC110
        await asyncio.sleep(LOOK)
