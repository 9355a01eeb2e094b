"""Every process of a stack: its command, how one sees that it is ready, how long it may take to stop.

Zone: host. May import: `deploy.local.{layout,containerd}`, `deploy.node.serving`, `workers.host.{node,shim.start}`.

In the order of starting; stopped in reverse. Each is one that may be killed at any moment: see `supervision`.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.local import containerd
from deploy.local.layout import Layout
from deploy.node.serving import serving
from workers.host.node import ENVIRONMENT as NODE_CONFIG
from workers.host.shim.start import ZYGOTE

MARK: Final = "ENCLAVE_CC_STACK"
"""In the environment of every process of a stack, and of all that they start: the stack's run folder."""

SMALL_HEAP: Final = {"GOGC": "25"}
"""Of Go's servers that stay: collected when a quarter was added to what lives, not as much again. On a machine of one
person's the memory is worth more than the collector's work.
"""


@dataclass(frozen=True, slots=True)
class Program:
    """One supervised process. `ready` asks once, quickly, without raising; None for one that serves nobody directly,
    which is ready when it has stayed up for a second. Times in seconds.
    """

    name: str
    command: tuple[str, ...]
    ready: Callable[[], bool] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_within: float = 30
    stops_within: int = 10


def all_programs(layout: Layout) -> list[Program]:
    """The whole stack, in the order of starting."""
    python, root = sys.executable, layout.root
    node = {NODE_CONFIG: str(layout.node_config)}
    return [
        Program(
            "bus",
            (str(Path(python).with_name("nats-server")), "-c", str(root / "nats.conf")),
            listening(layout.ports.bus),
            SMALL_HEAP,
        ),
        Program(
            "registry",
            ("docker-registry", "serve", str(root / "registry.yml")),
            listening(layout.ports.registry),
            SMALL_HEAP,
        ),
        Program(
            "cpu",
            (python, "-m", "workers.host.libos.sim", "--state", str(root / "cpu"))
            + ("--socket", str(layout.cpu), "--control", str(layout.cpu_control)),
            serving(layout.cpu_control),
        ),
        Program(
            "kbs",
            (python, "-m", "deploy.cli", "kbs", "--home", str(root / "owner"), "serve"),
            listening(layout.ports.kbs),
        ),
        Program(
            "orchestrator",
            (python, "-m", "orchestrator", "--bus", layout.bus_url, "--ca", str(layout.ca))
            + ("--credentials", str(layout.credentials("orchestrator"))),
        ),
        Program(
            "audit",
            (python, "-m", "deploy.cli", "audit", "run")
            + ("--config", str(layout.client_config), "--key", str(layout.audit_key)),
        ),
        Program(
            "console",
            (python, "-m", "deploy.cli", "console", "--config", str(layout.client_config))
            + ("--listen", f"127.0.0.1:{layout.ports.console}", "--token-file", str(layout.console_token)),
        ),
        Program("worker", (python, "-m", "workers.host"), environment=node),
        Program(
            "snapshotter",
            (python, "-m", "workers.host.snapshotter", "--root", str(layout.snapshots))
            + ("--address", str(layout.snapshotter), "--containerd-address", str(layout.containerd)),
            serving(layout.snapshotter),
        ),
        Program(
            "zygote",
            (python, "-m", "workers.host.shim.zygote", "--address", str(layout.zygote)),
            serving(layout.zygote),
            environment=node,
        ),
        Program(
            "containerd",
            ("containerd", "--config", str(root / "containerd/config.toml")),
            serving(layout.containerd),
            {"PATH": containerd.path_with_shim(layout), ZYGOTE: str(layout.zygote), **node},
            stops_within=20,
        ),
    ]


def listening(port: int) -> Callable[[], bool]:
    """Ready when 127.0.0.1:`port` takes connections."""

    def ready() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    return ready
