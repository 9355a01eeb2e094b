"""The node's own services, and containerd's, under whatever keeps processes on this node.

Zone: host. May import: `deploy.node.places`, `orchestrator.faults`; each implementation what it speaks to.

One small interface, two implementations: `systemd`, over its private socket, so that a Job needs no more than that
socket; `supervisord`, as Debian installs it, for nodes without systemd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

ZYGOTE: Final = "enclave-cc-zygote"
CPU: Final = "enclave-cc-cpu"


@dataclass(frozen=True, slots=True)
class Unit:
    """One service: `command` and `environment` as the node sees them. `lasting`: an upgrade leaves it running."""

    name: str
    about: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    lasting: bool = False


class Services(Protocol):
    """Every method but `files` and `links` raises Temporary(RUNTIME) when the keeper of processes does not answer."""

    def files(self, units: Sequence[Unit]) -> dict[str, bytes]:
        """What must lie where for these services to be kept: relative path to content. Pure."""
        ...

    def links(self, units: Sequence[Unit]) -> dict[str, str]:
        """Symbolic links besides: relative path to target. Pure."""
        ...

    def reload(self) -> None:
        """Take note of changed files."""
        ...

    def start(self, name: str) -> None:
        """Start a service; fine when it runs."""
        ...

    def restart(self, name: str) -> None:
        """Stop it if it runs, and start it. Done when the keeper has done so, not when the service is ready."""
        ...

    def stop(self, name: str) -> None:
        """Stop it; fine when it does not run, or is not known."""
        ...

    def runs(self, name: str) -> bool:
        """Whether it runs now."""
        ...

    def restart_containerd(self) -> None:
        """Let containerd read its configuration."""
        ...
