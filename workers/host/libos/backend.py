"""The seam between the host worker and whatever runs an enclave on this machine.

In the order of a launch: `prepare` a bundle, create the container from `MountedBundle.path` with `container_extras`
and the bundle's entry as its process, `enter` between the runtime's create and its start, `release` after its delete.
Every call may be repeated: a worker that died in the middle calls again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from workers.host.libos.entry import Entry


@dataclass(frozen=True, slots=True)
class MountedBundle:
    """A bundle that containers can be created from.

    `path` is its mounted root, read-only and shared by all its containers; `image_sha256` lower-case hex of its image
    file; `expected_measurement` the 32-byte MRENCLAVE that its enclaves will report; `entry` the one process that will
    be accepted in them, to be copied into the OCI spec as it is.
    """

    path: Path
    image_sha256: str
    expected_measurement: bytes
    entry: Entry


@dataclass(frozen=True, slots=True)
class Bind:
    """A bind mount of the OCI spec: `source` on this machine at `destination` in the container."""

    source: Path
    destination: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """A character device of the OCI spec, to be created and allowed."""

    path: str
    major: int
    minor: int
    mode: int


@dataclass(frozen=True, slots=True)
class ContainerExtras:
    """What an enclave's container needs besides its root."""

    binds: tuple[Bind, ...] = ()
    devices: tuple[Device, ...] = ()


class LibOS(Protocol):
    """One way to run enclaves. Raises `Temporary` when a part of it is away, `Permanent` when it says no."""

    @property
    def kind(self) -> str:
        """Its name in facts and logs: "sim"."""

    async def prepare(self, bundle: Path) -> MountedBundle:
        """Measure and mount the image file `bundle` (absolute). Cheap when nothing changed since the last call."""

    def container_extras(self) -> ContainerExtras:
        """Mounts and devices for the OCI spec of any enclave's container."""

    async def enter(self, pid: int, bundle: MountedBundle, config_id: bytes, *, debug: bool = False) -> None:
        """Make the created, not yet started container with first process `pid` an enclave of `bundle`.

        `config_id` is its CONFIGID, 64 bytes. `debug` sets ATTRIBUTES.DEBUG: such an enclave is refused by any sane
        policy. Must not be called after the container runs: until then its process is the runtime's own, and what was
        asked of the CPU so far was refused.
        """

    async def release(self, pid: int) -> None:
        """Forget the enclave whose first process was `pid`. Not an error when there is none."""
