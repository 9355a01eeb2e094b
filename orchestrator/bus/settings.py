"""How a process or a person finds the bus: a TOML file.

Zone: host. May import: `orchestrator.{bus,faults}`, the standard library.

    [bus]
    url = "tls://127.0.0.1:4222"
    ca = "/var/lib/enclave-cc/stacks/default/tls/ca.pem"              # PEM; without it the connection is plain
    credentials = "/var/lib/enclave-cc/stacks/default/bus/reader.creds"
    inbox = "_INBOX_reader"                                           # the prefix that the role must use

It names the credentials and holds none.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.bus.connection import Credentials
from orchestrator.faults import Code, Permanent

_MEMBERS: Final = ("url", "ca", "credentials", "inbox")


@dataclass(frozen=True, slots=True)
class BusSettings:
    """The file's members; `ca`, `credentials` and `inbox` may be empty, for a server without TLS and accounts."""

    url: str
    ca: str = ""
    credentials: str = ""
    inbox: str = ""

    @classmethod
    def load(cls, path: Path) -> BusSettings:
        """Read a file. Raises Permanent: NOT_FOUND where there is none, INPUT where it is not of the form."""
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise Permanent(
                Code.NOT_FOUND,
                "nobody has said where the bus is",
                expected=f"a settings file at {path}",
                got="none",
                advice="`enclave-cc up` writes one; or name one with --config or ENCLAVE_CC_CONFIG",
            ) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise _unusable(path, "a readable TOML file", str(error)) from error
        return cls(**_members(path, document))

    def text(self) -> str:
        """The file that `load` reads back."""
        # A JSON string is a TOML basic string, but for DEL, which no path holds.
        lines = [f"{name} = {json.dumps(value)}" for name in _MEMBERS if (value := getattr(self, name))]
        return "\n".join(["[bus]", *lines, ""])

    def enter(self) -> Credentials:
        """The credentials to connect with. Raises Permanent(INPUT) when the authority's file cannot be read."""
        try:
            authority = Path(self.ca).read_text("ascii") if self.ca else ""
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable(Path(self.ca), "the certificate authority of the bus, PEM", str(error)) from error
        return Credentials(self.url, authority, file=self.credentials, inbox=self.inbox or "_INBOX")


def _members(path: Path, document: dict[str, Any]) -> dict[str, str]:
    bus = document.get("bus")
    if set(document) != {"bus"} or not isinstance(bus, dict):
        raise _unusable(path, "one table, [bus]", ", ".join(document) or "nothing")
    for name, value in bus.items():
        if name not in _MEMBERS or not isinstance(value, str) or not value:
            raise _unusable(path, f"texts for {', '.join(_MEMBERS)}", f"{name} = {str(value)[:100]}")
    if "url" not in bus:
        raise _unusable(path, "url", "no url")
    return bus


def _unusable(path: Path, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        f"the settings {path} cannot be used",
        expected=expected,
        got=got,
        advice="see the head of orchestrator/bus/settings.py for the file's form",
    )
