"""supervisord as Debian installs it: a file in its conf.d, and its socket.

Zone: host. May import: `deploy.supervisord`, `deploy.node.{places,services}`, the standard library.

For nodes without systemd. containerd is then a program of the same supervisord, named `containerd`.
"""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy import supervisord
from deploy.node.services import Unit
from deploy.supervisord import AWAY, Daemon

SOCKET: Final = "run/supervisor.sock"
CONFIGURATION: Final = "etc/supervisor/conf.d/enclave-cc.conf"
CONTAINERD: Final = "containerd"


class Supervisord:
    """The daemon behind a node's `run/supervisor.sock`."""

    def __init__(self, address: Path) -> None:
        """Nothing is connected yet."""
        self._daemon = Daemon(address, "start supervisord on the node, with conf.d/*.conf included")

    def files(self, units: Sequence[Unit]) -> dict[str, bytes]:
        """See `Services`."""
        return {CONFIGURATION: ("\n\n".join(_section(unit) for unit in units) + "\n").encode()}

    def links(self, units: Sequence[Unit]) -> dict[str, str]:  # noqa: ARG002 - of the interface
        """See `Services`. None: what conf.d has is kept."""
        return {}

    def reload(self) -> None:
        """See `Services`. Only what was changed or removed stops; nothing starts by it."""
        answer = self._call("reloadConfig")
        if not isinstance(answer, list):
            return
        added, changed, removed = answer[0]
        for name in (*changed, *removed):
            self._daemon.stop(name)
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)

    def start(self, name: str) -> None:
        """See `Services`."""
        self._call("startProcess", name, False)

    def restart(self, name: str) -> None:
        """See `Services`."""
        self._call("stopProcess", name, True)
        self._call("startProcess", name, False)

    def stop(self, name: str) -> None:
        """See `Services`."""
        self._call("stopProcess", name, True)

    def runs(self, name: str) -> bool:
        """See `Services`."""
        return any(state.name == name and state.state in {"RUNNING", "STARTING"} for state in self._daemon.states())

    def restart_containerd(self) -> None:
        """See `Services`."""
        self.restart(CONTAINERD)

    def _call(self, method: str, *arguments: str | bool) -> object:
        try:
            return self._daemon.call(method, *arguments)
        except xmlrpc.client.Fault:
            return None  # it runs, or does not run, already
        except AWAY as error:
            raise self._daemon.away(error) from error


def _section(unit: Unit) -> str:
    return supervisord.section(
        f"program:{unit.name}",
        {
            "command": supervisord.command(unit.command),
            "environment": supervisord.environment(unit.environment),
            "directory": "/",
            "autostart": "true",
            "autorestart": "true",
            "startsecs": 1,
            "startretries": 10,
            "stopsignal": "TERM",
            "redirect_stderr": "true",
        },
    )
