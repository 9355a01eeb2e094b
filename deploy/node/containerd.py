"""A node's containerd as a program: its version, and what it makes of a configuration.

Zone: host. May import: `deploy.node.{flavours,places,settings}`, `orchestrator.faults`, the standard library.

`containerd config dump` reads a configuration as a start would, imports and defaults included, and starts nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from deploy.node.flavours import Flavour
from deploy.node.places import Places
from deploy.node.settings import RUNTIMES, Release
from orchestrator.faults import Code, Permanent

_WITHIN: Final = 60
_VERSION: Final = re.compile(r"\bv?(\d+)\.(\d+)\.(\d+)")
_DEFAULT_SOCKET: Final = "/run/containerd/containerd.sock"


@dataclass(frozen=True, slots=True)
class Effective:
    """What containerd makes of its configuration."""

    document: Mapping[str, Any]

    @property
    def handlers(self) -> Mapping[str, Mapping[str, Any]]:
        """Every runtime handler; none where the CRI is gone."""
        found: dict[str, Mapping[str, Any]] = {}
        for path in RUNTIMES.values():
            found |= self._at(path) or {}
        return found

    @property
    def default_handler(self) -> str:
        """What pods without a RuntimeClass run under."""
        for path in RUNTIMES.values():
            name = (self._at(path[:-1]) or {}).get("default_runtime_name")
            if name:
                return str(name)
        return ""

    @property
    def socket(self) -> str:
        """Where it serves. From version 4 that is a plugin's."""
        served = self._at(("plugins", "io.containerd.server.v1.grpc")) or {}
        older = self._at(("grpc",)) or {}
        return str(served.get("address") or older.get("address") or _DEFAULT_SOCKET)

    @property
    def disabled(self) -> tuple[str, ...]:
        """The plugins that shall not run."""
        return tuple(self.document.get("disabled_plugins") or ())

    @property
    def imports(self) -> tuple[str, ...]:
        """The patterns of what is read beside the root file."""
        return tuple(self.document.get("imports") or ())

    @property
    def leaves(self) -> dict[tuple[str, ...], Any]:
        """Every value by its place."""
        return dict(_leaves(self.document, ()))

    def _at(self, path: tuple[str, ...]) -> Mapping[str, Any] | None:
        table: Any = self.document
        for name in path:
            if not isinstance(table, Mapping) or name not in table:
                return None
            table = table[name]
        return table if isinstance(table, Mapping) else None


class Containerd(Protocol):
    """What is asked of the program. Raises Permanent(NODE_CONTAINERD) for what it does not read."""

    def release(self) -> tuple[str, Release]:
        """Its version as it says it, and parsed."""
        ...

    def dump(self, config: Path) -> Effective:
        """What it makes of the configuration at `config`, a path of this process; the defaults where there is none."""
        ...


class Program:
    """The node's own binary, in the node's own root."""

    def __init__(self, places: Places, flavour: Flavour) -> None:
        """Raises Permanent(NOT_FOUND)."""
        self._places = places
        found = next((name for name in flavour.programs if places.here(name).exists()), None)
        if found is None:
            raise Permanent(
                Code.NOT_FOUND,
                f"there is no {flavour.name} on this node",
                expected=f"one of {', '.join(places.there(name) for name in flavour.programs)}",
                got="none of them",
                advice="is --root the root of the node's file system?",
            )
        self._path = places.there(found)

    def release(self) -> tuple[str, Release]:
        """See `Containerd`."""
        said = self._run("--version")
        match = _VERSION.search(said)
        if match is None:
            raise _unreadable("its version", said)
        return match[0].removeprefix("v"), Release(int(match[1]), int(match[2]))

    def dump(self, config: Path) -> Effective:
        """See `Containerd`."""
        if config.exists():
            said = self._run(
                "--config", self._places.there(str(config.relative_to(self._places.root))), "config", "dump"
            )
        else:
            said = self._run("config", "default")
        try:
            return Effective(tomllib.loads(said))
        except ValueError as error:
            raise _unreadable("its configuration", str(error)) from error

    def _run(self, *arguments: str) -> str:
        root = str(self._places.root) if self._places.foreign else None

        def enter() -> None:
            if root is not None:
                os.chroot(root)
                os.chdir("/")

        # One thread here: what runs between fork and exec is safe.
        done = subprocess.run(
            [self._path, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=_WITHIN,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            preexec_fn=enter,
        )
        if done.returncode:
            raise _unreadable(" ".join(arguments), done.stderr.strip()[-1000:])
        return done.stdout


def _leaves(value: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping) and value:
        return [leaf for name, member in value.items() for leaf in _leaves(member, (*path, name))]
    return [(path, value)]


def _unreadable(what: str, got: str) -> Permanent:
    return Permanent(
        Code.NODE_CONTAINERD,
        f"containerd does not tell {what}",
        expected="the output of `containerd --version` and `containerd config dump`",
        got=got,
        advice="mend containerd's configuration first: it would not start with it either",
    )
