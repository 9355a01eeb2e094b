"""The command line by which containerd runs a shim: Go's flags, `-name value` or `-name=value`, then an action.

Peer: containerd runtime/v2/shim/shim.go, parseFlags. Hand-read, because argparse alone costs a third of a start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

_SWITCHES: Final = frozenset({"debug", "v"})
_VALUES: Final = frozenset({"namespace", "id", "address", "bundle", "publish-binary", "socket"})


class Arguments(NamedTuple):
    """`action` is empty, "start" or "delete"; `address` is containerd's gRPC socket; `bundle` is set by delete only."""

    action: str
    namespace: str
    id: str
    address: str
    bundle: str
    version: bool


def parse(words: Sequence[str]) -> Arguments:
    """Parse everything after the program's name. Raises ValueError, naming the word, for what containerd never says."""
    values: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).lstrip("-").partition("=")
        if name in _SWITCHES:
            values[name] = value or "true"
        elif name not in _VALUES or not (equals or rest):
            raise ValueError(f"unknown or incomplete flag {name}")
        else:
            values[name] = value if equals else rest.pop(0)
    if len(rest) > 1 or (rest and rest[0] not in {"start", "delete"}):
        raise ValueError(f"unknown action {' '.join(rest)}")
    given = values.get
    return Arguments(
        action=rest[0] if rest else "",
        namespace=given("namespace", ""),
        id=given("id", ""),
        address=given("address", ""),
        bundle=given("bundle", ""),
        version=given("v", "") == "true",
    )
