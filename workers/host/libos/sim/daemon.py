"""The simulated CPU as a process: two Unix sockets around a `Machine`.

The control socket (mode 0600) is the host worker's. The enclave socket (mode 0666) is bound into containers and open
to whoever reaches it; who gets an answer is the machine's business. Every connection carries one request, and has
`PATIENCE` seconds to do so. A restart of the daemon is a reset of the machine: enclaves that were running are unknown
from then on, and their containers hold a socket that nobody serves.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from orchestrator.faults import Code, Fault, Permanent
from schemas.simulated_cpu import LENGTH_BYTES, MAX_REQUEST_BYTES, Refused, frame, frame_length, refusal_reply
from workers.host.libos.backend import MountedBundle
from workers.host.libos.sim import control
from workers.host.libos.sim.bundles import Bundles
from workers.host.libos.sim.cpu import Cpu
from workers.host.libos.sim.machine import Machine
from workers.host.libos.sim.pki import CPU_SVN, SimulatedPki
from workers.host.libos.sim.process import Process
from workers.host.libos.sim.root_secret import root_secret
from workers.host.unix_socket import listening

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from workers.host.libos.sim.machine import Enclave

PATIENCE: Final = 10.0
"""Seconds for one connection, from accept to the last byte; mounting a bundle does not count."""
MAX_CONNECTIONS: Final = 256
"""On the enclave socket at once; one more is closed unheard, so that nobody can exhaust the daemon's descriptors."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Places:
    """Where the daemon keeps and offers what. `state` is a directory, made when missing; the others are sockets."""

    state: Path
    enclave_socket: Path
    control_socket: Path


async def serve(places: Places) -> None:
    """Run until SIGTERM or SIGINT, then detach the mounts and remove the sockets.

    `Permanent(RUNTIME)` when another daemon uses the same state.
    """
    places.state.mkdir(mode=0o711, parents=True, exist_ok=True)
    lock = _lock(places.state)
    bundles = Bundles(places.state)
    try:
        machine = Machine(Cpu(root_secret(places.state / "root-secret"), CPU_SVN), _pki(places.state), bundles)
        await _Daemon(machine).run(places)
    finally:
        bundles.close()
        os.close(lock)


class _Daemon:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._connections = 0

    async def run(self, places: Places) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        enclaves = await asyncio.start_unix_server(
            self._enclave, sock=listening(places.enclave_socket, backlog=MAX_CONNECTIONS, mode=0o666)
        )
        try:
            control_server = await asyncio.start_unix_server(
                self._control, sock=listening(places.control_socket, backlog=MAX_CONNECTIONS)
            )
            try:
                _log.info("simulated CPU ready", enclave_socket=str(places.enclave_socket))
                await stop.wait()
            finally:
                control_server.close()
                places.control_socket.unlink(missing_ok=True)
        finally:
            enclaves.close()
            places.enclave_socket.unlink(missing_ok=True)
            for enclave in self._machine.enclaves:
                self._forget(enclave)

    async def _enclave(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= MAX_CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        try:
            await _conversation(reader, writer, MAX_REQUEST_BYTES, self._answer_enclave)
        finally:
            self._connections -= 1

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _conversation(reader, writer, control.MAX_CONTROL_BYTES, self._answer_control)

    async def _answer_enclave(self, connection: socket.socket, request: bytes) -> bytes:
        try:
            caller = Process.of_peer(connection)
            try:
                return b"\0" + self._machine.execute(caller, request)
            finally:
                caller.close()
        except Refused as refused:
            _log.warning("refused", why=refused.refusal.name, reason=refused.reason)
            return refusal_reply(refused)

    async def _answer_control(self, _connection: socket.socket, request: bytes) -> bytes:
        try:
            return await self._do(control.parse_request(request))
        except OSError as error:
            _log.exception("error")
            return control.encode_fault(Permanent(Code.RUNTIME, "the simulated CPU could not do it", got=str(error)))
        except Fault as fault:
            _log.warning("fault", code=fault.code, message=fault.diagnosis.message, got=fault.diagnosis.got)
            return control.encode_fault(fault)

    async def _do(self, request: control.Request) -> bytes:
        match request:
            case control.MountRequest(image):
                # Hashing is slow and lets go of the interpreter: enclaves are served meanwhile.
                bundle = await asyncio.to_thread(self._machine.mount, image)
                known = bundle.measurement
                return control.encode_bundle(
                    MountedBundle(bundle.path, known.image_sha256, known.mrenclave, known.entry)
                )
            case control.EinitRequest(pid, image_sha256, config_id, debug):
                self._einit(pid, image_sha256, config_id, debug=debug)
                return control.encode_nothing()
            case control.ReleaseRequest(pid):
                enclave = self._machine.find(pid)
                if enclave is not None:
                    self._forget(enclave)
                return control.encode_nothing()
            case control.StatusRequest():
                return control.encode_status(self._status())

    def _einit(self, pid: int, image_sha256: str, config_id: bytes, *, debug: bool) -> None:
        enclave = self._machine.einit(pid, image_sha256, config_id, debug=debug)
        # A pidfd is readable from the moment its process has ended. For an enclave that is known this changes nothing.
        asyncio.get_running_loop().add_reader(enclave.process.pidfd, self._forget, enclave)
        _log.info("enclave entered", pid=pid, mrenclave=enclave.secs.mrenclave.hex(), debug=debug)

    def _forget(self, enclave: Enclave) -> None:
        asyncio.get_running_loop().remove_reader(enclave.process.pidfd)
        self._machine.drop(enclave)
        _log.info("enclave gone", pid=enclave.process.pid, mrenclave=enclave.secs.mrenclave.hex())

    def _status(self) -> control.Status:
        return control.Status(
            tuple(
                control.EnclaveStatus(enclave.process.pid, enclave.secs.mrenclave.hex(), enclave.secs.attributes.debug)
                for enclave in self._machine.enclaves
            ),
            tuple(bundle.measurement.image_sha256 for bundle in self._machine.bundles),
        )


async def _conversation(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    bound: int,
    answer: Callable[[socket.socket, bytes], Awaitable[bytes]],
) -> None:
    """One request, one reply. Whatever the other side does, the connection is closed and the daemon goes on."""
    try:
        async with asyncio.timeout(PATIENCE):
            length = frame_length(await reader.readexactly(LENGTH_BYTES), bound)
            request = await reader.readexactly(length)
        reply = await answer(writer.get_extra_info("socket"), request)
        async with asyncio.timeout(PATIENCE):
            writer.write(frame(reply))
            await writer.drain()
    except (OSError, EOFError, TimeoutError, Refused) as error:
        _log.info("connection dropped", why=type(error).__name__)
    finally:
        writer.close()


def _pki(state: Path) -> SimulatedPki:
    directory = state / "pki"
    return SimulatedPki.load(directory) if directory.exists() else SimulatedPki.create(directory)


def _lock(state: Path) -> int:
    """Held for as long as the process lives; the kernel lets go of it in a crash."""
    fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise Permanent(
            Code.RUNTIME,
            "another simulated CPU uses this state",
            got=str(state),
            advice="one machine, one CPU: stop it",
        ) from error
    return fd
