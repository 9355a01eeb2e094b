"""supervisord over a stack's processes: it starts them, starts them again when they die, keeps their logs.

Zone: host. May import: `deploy.supervisord`, `deploy.local.{layout,programs}`.

The daemon starts nothing by itself: `stack` asks for each process in order and waits until it is ready. A process that
dies later is started again by the daemon alone.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from typing import Final

from deploy import supervisord
from deploy.local.layout import Layout
from deploy.local.programs import Program
from deploy.supervisord import AWAY, Daemon
from orchestrator.faults import Code, Permanent

DAEMON_WITHIN: Final = 15.0


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
        supervisord.section("unix_http_server", {"file": layout.supervisor, "chmod": "0700"}),
        supervisord.section("supervisord", daemon),
        supervisord.section(
            "rpcinterface:supervisor",
            {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
    ]
    sections += [_program(layout, program) for program in programs]
    return "\n\n".join(sections) + "\n"


class Supervisor(Daemon):
    """One stack's supervisord."""

    def __init__(self, layout: Layout) -> None:
        """Nothing is started; the daemon need not run."""
        super().__init__(layout.supervisor, "`enclave-cc up` starts it")
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

    def shut_down(self) -> None:
        """Stop whatever still runs and end the daemon; return when its socket is silent."""
        with contextlib.suppress(*AWAY, xmlrpc.client.Fault):
            self.call("shutdown")
        ends = time.monotonic() + DAEMON_WITHIN
        while self.alive() and time.monotonic() < ends:
            time.sleep(0.05)


def _program(layout: Layout, program: Program) -> str:
    return supervisord.section(
        f"program:{program.name}",
        {
            "command": supervisord.command(program.command),
            "environment": supervisord.environment(program.environment),
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
