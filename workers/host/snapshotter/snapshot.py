"""A snapshot as a value, and the four ways in which containerd's request for one can fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from orchestrator.faults import Code, Permanent


class Kind(IntEnum):
    """What a snapshot may be used for; the numbers of containerd's `Kind`."""

    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3


@dataclass(frozen=True, slots=True)
class Usage:
    """What a snapshot takes on disk: bytes (allocated blocks, not apparent size) and inodes."""

    size: int
    inodes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One row. `id` is never used twice and names the directory; `parent` is a name, empty at the bottom.

    `remote`: nothing of it is on this host. `usage` is zero until committed.
    """

    id: int
    name: str
    parent: str
    kind: Kind
    remote: bool
    labels: Mapping[str, str]
    created_ns: int
    updated_ns: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount that containerd will make; `options` as mount(8) takes them."""

    type: str
    source: str
    options: tuple[str, ...]


class Refusal(Permanent):
    """A request that cannot be served as it stands. `status` is gRPC's name of the answer that containerd expects."""

    status: ClassVar[str]


class NotFound(Refusal):
    """No such snapshot."""

    status = "NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(Code.NOT_FOUND, f"snapshot {name} does not exist")


class AlreadyExists(Refusal):
    """There is a snapshot of that name; for a remote layer, the answer that keeps containerd from pulling it."""

    status = "ALREADY_EXISTS"

    def __init__(self, name: str) -> None:
        super().__init__(Code.INPUT, f"snapshot {name} already exists")


class Precondition(Refusal):
    """The snapshot is of another kind, or others stand on it."""

    status = "FAILED_PRECONDITION"

    def __init__(self, message: str) -> None:
        super().__init__(Code.INPUT, message)


class Invalid(Refusal):
    """The request makes no sense."""

    status = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, expected: str = "", got: str = "") -> None:
        super().__init__(Code.INPUT, message, expected=expected, got=got)
