"""The broker's configuration: a TOML file, read strictly, whose paths are relative to it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Permanent

if TYPE_CHECKING:
    from pathlib import Path

_MAX_MINUTES: Final = 24 * 60
_ADDRESS: Final = re.compile(r"(?:\[([0-9a-fA-F:]+)\]|([A-Za-z0-9.\-]+)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class SimulatedRoot:
    """A root certificate (DER) of simulated platforms, and the one collateral file they share."""

    name: str
    root: Path
    collateral: Path


@dataclass(frozen=True, slots=True)
class KbsConfig:
    """Where to listen, what to trust, where the state is. `intel_collateral` None: no genuine hardware is verified."""

    host: str
    port: int
    state: Path
    session_minutes: int
    tls_certificate: Path
    tls_key: Path
    token_certificate: Path
    token_key: Path
    token_ca: Path
    token_minutes: int
    admin_public_key: Path
    admin_issuer: str
    intel_collateral: Path | None
    simulated_roots: tuple[SimulatedRoot, ...]

    @classmethod
    def load(cls, path: Path) -> KbsConfig:
        """From a file; `Permanent` when it is missing, not TOML, or has a member too few, too many or mistyped."""
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise Permanent(
                Code.NOT_FOUND,
                "there is no configuration",
                expected=str(path),
                advice="enclave-cc kbs init <directory>",
            ) from None
        except ValueError as error:
            raise Permanent(Code.INPUT, "the configuration is not TOML", got=f"{path}: {error}"[:512]) from error
        return _read(_Table(document, path.absolute().parent, ""))


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[IPv6]:port`; `Permanent(INPUT)` otherwise. Port 0: any free one."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[3]) > 65535:
        raise Permanent(
            Code.INPUT, "this is no address to listen at", expected="host:port or [IPv6]:port", got=ascii(address[:128])
        )
    return match[1] or match[2], int(match[3])


def _read(top: _Table) -> KbsConfig:
    tls, token, admin, sgx = (top.table(name) for name in ("tls", "token", "admin", "sgx"))
    host, port = parse_address(top.text("listen"))
    config = KbsConfig(
        host=host,
        port=port,
        state=top.path("state"),
        session_minutes=top.minutes("session_minutes"),
        tls_certificate=tls.path("certificate"),
        tls_key=tls.path("key"),
        token_certificate=token.path("certificate"),
        token_key=token.path("key"),
        token_ca=token.path("ca"),
        token_minutes=token.minutes("minutes"),
        admin_public_key=admin.path("public_key"),
        admin_issuer=admin.text("issuer"),
        intel_collateral=sgx.path("intel_collateral") if "intel_collateral" in sgx else None,
        simulated_roots=tuple(_simulated_root(root) for root in sgx.tables("simulated_roots")),
    )
    for table in (top, tls, token, admin, sgx):
        table.end()
    return config


def _simulated_root(table: _Table) -> SimulatedRoot:
    root = SimulatedRoot(table.text("name"), table.path("root"), table.path("collateral"))
    table.end()
    return root


class _Table:
    """One table of the file. Members are taken out one by one; at the `end` none may be left."""

    def __init__(self, members: dict[str, object], folder: Path, name: str) -> None:
        self._members = dict(members)
        self._folder = folder
        self._name = name

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def text(self, name: str) -> str:
        value = self._members.pop(name, None)
        if not isinstance(value, str) or not value:
            raise self._wrong(name, "a string", value)
        return value

    def path(self, name: str) -> Path:
        return self._folder / self.text(name)

    def minutes(self, name: str) -> int:
        value = self._members.pop(name, None)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_MINUTES:
            raise self._wrong(name, f"1 to {_MAX_MINUTES} minutes", value)
        return value

    def table(self, name: str) -> _Table:
        value = self._members.pop(name, None)
        if not isinstance(value, dict):
            raise self._wrong(name, "a table", value)
        return _Table(value, self._folder, f"{self._name}{name}.")

    def tables(self, name: str) -> list[_Table]:
        """The array of tables `name`; empty where there is none."""
        value = self._members.pop(name, [])
        if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            raise self._wrong(name, "an array of tables", value)
        return [_Table(table, self._folder, f"{self._name}{name}.") for table in value]

    def end(self) -> None:
        for name in self._members:
            raise self._wrong(name, "no such member", self._members[name])

    def _wrong(self, name: str, expected: str, got: object) -> Permanent:
        return Permanent(
            Code.INPUT,
            f"the configuration's {self._name}{name} cannot be used",
            expected=expected,
            got="nothing" if got is None else ascii(got)[:128],
        )
