"""supervisord, for whoever keeps processes by it: its configuration's text, and a running daemon asked over its socket.

Zone: host. May import: `supervisor` (its XML-RPC client), `orchestrator.faults`, the standard library.
"""

from __future__ import annotations

import contextlib
import http.client
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.xmlrpc import SupervisorTransport

from orchestrator.faults import Code, Temporary

AWAY: Final = (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What supervisord says of one process: `state` in its words (RUNNING, BACKOFF, FATAL...), `pid` 0 for none."""

    name: str
    state: str
    pid: int
    since: float


class Daemon:
    """The supervisord that serves at `address`. It need not run."""

    def __init__(self, address: Path, advice: str) -> None:
        """`advice` is for whom it does not answer."""
        self._address = address
        self._advice = advice

    def alive(self) -> bool:
        """Whether it answers, be it only that it is shutting down."""
        try:
            self.call("getState")
        except xmlrpc.client.Fault:
            return True
        except AWAY:
            return False
        return True

    def start(self, name: str) -> None:
        """Start one process; done when it has been started, not when it is ready."""
        with contextlib.suppress(xmlrpc.client.Fault):  # it runs already
            self.call("startProcess", name, False)

    def stop(self, name: str) -> None:
        """Stop one process and wait until it is gone."""
        with contextlib.suppress(xmlrpc.client.Fault):  # it does not run
            self.call("stopProcess", name, True)

    def states(self) -> list[ProcessState]:
        """Every process. Raises Temporary(RUNTIME) when the daemon is away."""
        try:
            answer = self.call("getAllProcessInfo")
        except AWAY as error:
            raise self.away(error) from error
        if not isinstance(answer, list):
            return []
        return [ProcessState(p["name"], p["statename"], int(p["pid"]), float(p["start"])) for p in answer]

    def call(self, method: str, *arguments: str | bool) -> object:
        """One call on a connection of its own: a transport that failed once stays broken. Raises those of `AWAY`."""
        # The host of the address is never resolved: the transport connects to the socket.
        transport = SupervisorTransport(None, None, f"unix://{self._address}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            answer: object = getattr(proxy.supervisor, method)(*arguments)
        return answer

    def away(self, error: Exception) -> Temporary:
        """The fault for one of `AWAY`."""
        return Temporary(
            Code.RUNTIME,
            "supervisord does not answer",
            expected=f"its socket at {self._address}",
            got=type(error).__name__,
            advice=self._advice,
        )


def section(name: str, options: Mapping[str, object]) -> str:
    """An ini section; supervisord expands `%(...)s` in every value."""
    return "\n".join([f"[{name}]", *(f"{key}={str(value).replace('%', '%%')}" for key, value in options.items())])


def command(words: Iterable[str]) -> str:
    """Quoted for supervisord, which splits like a shell."""
    return " ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)


def environment(variables: Mapping[str, str]) -> str:
    """A process's environment, as supervisord reads it."""
    return ",".join(f'{name}="{value}"' for name, value in sorted(variables.items()))
