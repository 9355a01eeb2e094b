"""supervisord over a stack's processes: it starts them, starts them again when they die, keeps their logs.

Zone: host. May import: `supervisor` (its XML-RPC client), `deploy.local.{layout,programs}`.

The daemon starts nothing by itself: `stack` asks for each process in order and waits until it is ready. A process that
dies later is started again by the daemon alone.
"""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from supervisor.xmlrpc import SupervisorTransport

from deploy.local.layout import Layout
from deploy.local.programs import Program
from orchestrator.faults import Code, Permanent, Temporary

DAEMON_WITHIN: Final = 15.0
_AWAY: Final = (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What supervisord says of one process: `state` in its words (RUNNING, BACKOFF, FATAL...), `pid` 0 for none."""

    name: str
    state: str
    pid: int
    since: float


def configuration(layout: Layout, programs: Iterable[Program]) -> str:
    """The text of `supervisord.conf`."""
    daemon = {
        "logfile": layout.logs / "supervisord.log",
        "logfile_maxbytes": "4MB",
        "logfile_backups": 1,
        "pidfile": layout.run / "supervisord.pid",
        "childlogdir": layout.logs,
        "directory": "/",
        "loglevel": "warn",
        "umask": "022",
    }
    sections = [
        _section("unix_http_server", {"file": layout.supervisor, "chmod": "0700"}),
        _section("supervisord", daemon),
        _section(
            "rpcinterface:supervisor",
            {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
    ]
    sections += [_program(layout, program) for program in programs]
    return "\n\n".join(sections) + "\n"


class Supervisor:
    """One stack's supervisord."""

    def __init__(self, layout: Layout) -> None:
        """Nothing is started; the daemon need not run."""
        self._layout = layout

    def run_daemon(self, environment: Mapping[str, str]) -> None:
        """Start the daemon on the layout's `supervisord.conf` unless it runs. Raises Permanent(RUNTIME)."""
        if self.alive():
            return
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._layout.root / "supervisord.conf")]
        started = subprocess.run(
            command, env=dict(environment), cwd="/", capture_output=True, text=True, check=False, timeout=DAEMON_WITHIN
        )
        ends = time.monotonic() + DAEMON_WITHIN
        while not self.alive():
            if started.returncode or time.monotonic() > ends:
                raise Permanent(
                    Code.RUNTIME,
                    "supervisord did not start",
                    expected=f"its socket at {self._layout.supervisor}",
                    got=(started.stderr or started.stdout).strip()[-500:] or "nothing",
                    advice=f"see {self._layout.logs}/supervisord.log",
                )
            time.sleep(0.02)

    def alive(self) -> bool:
        """Whether the daemon answers, be it only that it is shutting down."""
        try:
            self._call("getState")
        except xmlrpc.client.Fault:
            return True
        except _AWAY:
            return False
        return True

    def start(self, name: str) -> None:
        """Start one process; done when it has been started, not when it is ready."""
        with contextlib.suppress(xmlrpc.client.Fault):  # it runs already
            self._call("startProcess", name, False)

    def stop(self, name: str) -> None:
        """Stop one process and wait until it is gone."""
        with contextlib.suppress(xmlrpc.client.Fault):  # it does not run
            self._call("stopProcess", name, True)

    def states(self) -> list[ProcessState]:
        """Every process. Raises Temporary(RUNTIME) when the daemon is away."""
        try:
            answer = self._call("getAllProcessInfo")
        except _AWAY as error:
            raise Temporary(
                Code.RUNTIME,
                f"the stack {self._layout.name} does not run",
                expected=f"supervisord at {self._layout.supervisor}",
                got=type(error).__name__,
                advice="`enclave-cc up` starts it",
            ) from error
        if not isinstance(answer, list):
            return []
        return [ProcessState(p["name"], p["statename"], int(p["pid"]), float(p["start"])) for p in answer]

    def shut_down(self) -> None:
        """Stop whatever still runs and end the daemon; return when its socket is silent."""
        with contextlib.suppress(*_AWAY, xmlrpc.client.Fault):
            self._call("shutdown")
        ends = time.monotonic() + DAEMON_WITHIN
        while self.alive() and time.monotonic() < ends:
            time.sleep(0.05)

    def _call(self, method: str, *arguments: str | bool) -> object:
        """One call on a connection of its own: a transport that failed once stays broken."""
        # The host of the address is never resolved: the transport connects to the socket.
        transport = SupervisorTransport(None, None, f"unix://{self._layout.supervisor}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            answer: object = getattr(proxy.supervisor, method)(*arguments)
        return answer


def _program(layout: Layout, program: Program) -> str:
    environment = ",".join(f'{name}="{value}"' for name, value in sorted(program.environment.items()))
    return _section(
        f"program:{program.name}",
        {
            "command": _command(program.command),
            "environment": environment,
            "directory": layout.root,
            "autostart": "false",
            "autorestart": "true",
            "startsecs": 1,
            "startretries": 10,
            "stopsignal": "TERM",
            "stopwaitsecs": program.stops_within,
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": layout.logs / f"{program.name}.log",
            "stdout_logfile_maxbytes": "16MB",
            "stdout_logfile_backups": 1,
        },
    )


def _section(name: str, options: Mapping[str, object]) -> str:
    """An ini section; supervisord expands `%(...)s` in every value."""
    return "\n".join([f"[{name}]", *(f"{key}={str(value).replace('%', '%%')}" for key, value in options.items())])


def _command(words: Iterable[str]) -> str:
    """Quoted for supervisord, which splits like a shell."""
    return " ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
