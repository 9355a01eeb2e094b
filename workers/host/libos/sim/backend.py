"""The simulated CPU as a `LibOS`: a client of the daemon's control socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Temporary
from schemas.simulated_cpu import LENGTH_BYTES, SOCKET_IN_ENCLAVE, Refused, frame, frame_length
from workers.host.libos.backend import Bind, ContainerExtras, MountedBundle
from workers.host.libos.sim import control

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE: Final = 60.0
"""Seconds; hashing a bundle for the first time takes about one for 300 MB."""


class SimulatedLibOS:
    """Implements `workers.host.libos.backend.LibOS`. `Temporary(RUNTIME)` whenever the daemon is away."""

    kind: Final = "sim"

    def __init__(self, control_socket: Path, enclave_socket: Path) -> None:
        """The two sockets of the daemon, as given to it."""
        self._control_socket = control_socket
        self._enclave_socket = enclave_socket

    async def prepare(self, bundle: Path) -> MountedBundle:
        """See `LibOS.prepare`. `Permanent`: NOT_FOUND, INPUT or RUNTIME, as `measure_image` and the kernel say."""
        return control.parse_bundle(await self._ask(control.MountRequest(bundle)))

    def container_extras(self) -> ContainerExtras:
        """The enclave socket, at the place where `SimulatedTee` looks for it."""
        return ContainerExtras(
            binds=(Bind(self._enclave_socket, SOCKET_IN_ENCLAVE, ("bind", "ro", "nosuid", "nodev", "noexec")),)
        )

    async def enter(self, pid: int, bundle: MountedBundle, config_id: bytes, *, debug: bool = False) -> None:
        """See `LibOS.enter`. `Permanent(AGENT_MEASUREMENT)` when the process is not rooted in the bundle."""
        request = control.EinitRequest(pid, bundle.image_sha256, config_id, debug)
        control.parse_nothing(await self._ask(request))

    async def release(self, pid: int) -> None:
        """See `LibOS.release`."""
        control.parse_nothing(await self._ask(control.ReleaseRequest(pid)))

    async def status(self) -> control.Status:
        """What the daemon holds: for health checks and for people."""
        return control.parse_status(await self._ask(control.StatusRequest()))

    async def _ask(self, request: control.Request) -> bytes:
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_unix_connection(self._control_socket)
                try:
                    writer.write(frame(control.encode_request(request)))
                    length = frame_length(await reader.readexactly(LENGTH_BYTES), control.MAX_CONTROL_BYTES)
                    return await reader.readexactly(length)
                finally:
                    writer.close()
        except (OSError, EOFError, TimeoutError, Refused) as error:
            raise Temporary(
                Code.RUNTIME,
                "the simulated CPU does not answer",
                expected=str(self._control_socket),
                got=type(error).__name__,
                advice="is `python -m workers.host.libos.sim` running, and as root?",
            ) from error
