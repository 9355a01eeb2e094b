"""systemd: unit files, and its manager asked over /run/systemd/private.

Zone: host. May import: `jeepney`, `deploy.node.{places,services}`, `orchestrator.faults`.

That socket is the one by which `systemctl` itself reaches the manager as root: D-Bus without a bus. A Job that has it
mounted can do this; it needs no host processes, no nsenter and no privilege for it.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, Properties, new_method_call
from jeepney.auth import BEGIN, Authenticator

from deploy.node.services import CPU, ZYGOTE, Unit
from orchestrator.faults import Code, Temporary

SOCKET: Final = "run/systemd/private"
UNITS: Final = "etc/systemd/system"
_NAME: Final = "org.freedesktop.systemd1"
_MANAGER: Final = DBusAddress("/org/freedesktop/systemd1", _NAME, f"{_NAME}.Manager")
_WITHIN: Final = 90.0
_STEP: Final = 0.05

_UNIT: Final = """# Written by `enclave-cc node install`.
[Unit]
Description={about}
After=network-online.target
Wants=network-online.target
{before}
[Service]
ExecStart={command}
{environment}Restart=always
RestartSec=1
# What a service started for a pod outlives it: the monitors of pods' containers, the shims, the enclaves' mounts.
KillMode=process
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


class Systemd:
    """The manager behind a node's `run/systemd/private`."""

    def __init__(self, path: Path, containerd: Sequence[str]) -> None:
        """`containerd`: the units that containerd may be; the first that is loaded is. Nothing is connected yet."""
        self._path = path
        self._containerd = tuple(containerd)

    def files(self, units: Sequence[Unit]) -> dict[str, bytes]:
        """See `Services`."""
        return {f"{UNITS}/{unit.name}.service": self._text(unit).encode() for unit in units}

    def links(self, units: Sequence[Unit]) -> dict[str, str]:
        """See `Services`. As `systemctl enable` makes them."""
        return {f"{UNITS}/multi-user.target.wants/{unit.name}.service": f"../{unit.name}.service" for unit in units}

    def reload(self) -> None:
        """See `Services`."""
        with self._manager() as ask:
            ask("Reload")

    def start(self, name: str) -> None:
        """See `Services`."""
        self._job("StartUnit", f"{name}.service")

    def restart(self, name: str) -> None:
        """See `Services`."""
        self._job("RestartUnit", f"{name}.service")

    def stop(self, name: str) -> None:
        """See `Services`."""
        if self._state(f"{name}.service") not in {"inactive", ""}:
            self._job("StopUnit", f"{name}.service")

    def runs(self, name: str) -> bool:
        """See `Services`."""
        return self._state(f"{name}.service") == "active"

    def restart_containerd(self) -> None:
        """See `Services`."""
        loaded = [unit for unit in self._containerd if self._state(unit) in {"active", "activating", "failed"}]
        self._job("RestartUnit", loaded[0] if loaded else self._containerd[0])

    def _text(self, unit: Unit) -> str:
        environment = "".join(f'Environment="{name}={value}"\n' for name, value in sorted(unit.environment.items()))
        before = "Before=" + " ".join(self._containerd) + "\n" if unit.name not in {ZYGOTE, CPU} else ""
        return _UNIT.format(about=unit.about, command=" ".join(unit.command), environment=environment, before=before)

    def _state(self, unit: str) -> str:
        with self._manager() as ask:
            path = ask("LoadUnit", "s", unit)
            properties = Properties(DBusAddress(path, _NAME, f"{_NAME}.Unit"))
            return str(ask.message(properties.get("ActiveState"))[1])

    def _job(self, method: str, unit: str) -> None:
        """Ask for it and wait until the manager has done it."""
        with self._manager() as ask:
            job = ask(method, "ss", unit, "replace")
            ends = time.monotonic() + _WITHIN
            waiting = Properties(DBusAddress(job, _NAME, f"{_NAME}.Job"))
            while True:
                try:
                    ask.message(waiting.get("State"))
                except Temporary:
                    return  # a job that is done is no object any more
                if time.monotonic() > ends:
                    raise _away(f"{method} {unit}", f"not done within {_WITHIN:g} s")
                time.sleep(_STEP)

    @contextlib.contextmanager
    def _manager(self) -> Iterator[_Ask]:
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(_WITHIN)
                link.connect(str(self._path))
                _authenticate(link)
                yield _Ask(link)
        except OSError as error:
            raise _away("a connection", f"{type(error).__name__}: {error}") from error


class _Ask:
    """Method calls on one connection. Raises Temporary(RUNTIME) with the manager's words for what it refuses."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._parser = Parser()
        self._serial = 0

    def __call__(self, method: str, signature: str | None = None, *arguments: str) -> str:
        body = self.message(new_method_call(_MANAGER, method, signature, arguments))
        return str(body[0]) if body else ""

    def message(self, message: Any) -> Any:
        """The body of the reply; a variant without its signature."""
        self._serial += 1
        self._link.sendall(message.serialise(self._serial))
        reply = self._reply()
        if reply.header.message_type is MessageType.error:
            raise _away("a call", str(reply.body))
        first = reply.body
        return first[0] if first and isinstance(first[0], tuple) else first

    def _reply(self) -> Message:
        """To the last call; signals, which the manager sends to all, are passed over."""
        while True:
            message = self._parser.get_next_message()
            if message is None:
                if not (data := self._link.recv(1 << 16)):
                    raise ConnectionResetError("the manager closed the connection")
                self._parser.add_data(data)
            elif message.header.fields.get(HeaderFields.reply_serial) == self._serial:
                return message


def _authenticate(link: socket.socket) -> None:
    """SASL EXTERNAL, as D-Bus begins a connection; there is no bus that would have to be greeted."""
    authenticator = Authenticator(enable_fds=False)
    for request in authenticator:
        link.sendall(request)
        authenticator.feed(link.recv(4096))
    link.sendall(BEGIN)


def _away(what: str, got: str) -> Temporary:
    return Temporary(
        Code.RUNTIME,
        f"systemd did not do {what}",
        expected="an answer over /run/systemd/private",
        got=got[:500],
        advice="in a Job, is that socket mounted? on the node: systemctl status, journalctl -u 'enclave-cc-*'",
    )
