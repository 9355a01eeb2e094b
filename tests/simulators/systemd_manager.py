"""systemd's manager at its private socket: D-Bus without a bus, as much of it as `deploy.node.services.systemd` asks.

Units are a state each; a job is an object for two questions and then gone, as systemd's are when they are done.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any, Self

from jeepney import HeaderFields, Message, Parser, new_error, new_method_return

_UNIT, _JOB = "/org/freedesktop/systemd1/unit/", "/org/freedesktop/systemd1/job/"


class SystemdManager:
    """`states` by unit; `asked`: every method with its unit, in order."""

    def __init__(self, path: Path, **states: str) -> None:
        self.states = {name.replace("_", "-") + ".service": state for name, state in states.items()}
        self.asked: list[str] = []
        self._jobs: dict[str, int] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with link:
                self._answer(link)

    def _answer(self, link: socket.socket) -> None:
        said = b""
        while not said.endswith(b"\r\n"):
            said += link.recv(4096)
        assert said.startswith(b"\0AUTH EXTERNAL ")
        link.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
        said = b""
        while not said.startswith(b"BEGIN\r\n"):
            said += link.recv(7 - len(said))
        parser, serial = Parser(), 0
        while data := link.recv(4096):
            for message in parser.feed(data):
                serial += 1
                link.sendall(self._reply(message).serialise(serial))

    def _reply(self, message: Message) -> Message:
        method, path = message.header.fields[HeaderFields.member], message.header.fields[HeaderFields.path]
        body: tuple[Any, ...] = message.body
        if method == "Get":
            return self._property(message, path)
        self.asked.append(" ".join([method, *body[:1]]))
        if method == "Reload":
            return new_method_return(message)
        if method == "LoadUnit":
            return new_method_return(message, "o", (_UNIT + _escaped(body[0]),))
        if self.states.get(body[0]) == "missing":
            return new_error(message, "org.freedesktop.systemd1.NoSuchUnit", "s", (f"Unit {body[0]} not found.",))
        self.states[body[0]] = "inactive" if method == "StopUnit" else "active"
        job = f"{_JOB}{len(self._jobs) + 1}"
        self._jobs[job] = 2
        return new_method_return(message, "o", (job,))

    def _property(self, message: Message, path: str) -> Message:
        if path.startswith(_JOB):
            self._jobs[path] -= 1
            if self._jobs[path] < 0:
                return new_error(message, "org.freedesktop.DBus.Error.UnknownObject", "s", ("Unknown object.",))
            return new_method_return(message, "v", (("s", "running"),))
        unit = next((unit for unit in self.states if path == _UNIT + _escaped(unit)), "")
        return new_method_return(message, "v", (("s", self.states.get(unit, "inactive")),))


def _escaped(unit: str) -> str:
    """systemd.unit(5), as object paths have it."""
    return "".join(letter if letter.isalnum() else f"_{ord(letter):02x}" for letter in unit)
