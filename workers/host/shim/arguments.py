"""The command line by which containerd runs a shim: Go's flags, `-name value` or `-name=value`, then an action.

Peer: containerd runtime/v2/shim/shim.go, parseFlags. Hand-read, because argparse alone costs a third of a start; no
dataclass and no `typing`, for the same reason.
"""

from __future__ import annotations

_SWITCHES = frozenset({"debug", "info", "v"})
_VALUES = frozenset({"namespace", "id", "address", "bundle", "publish-binary", "socket"})


class Arguments:
    """`action` is empty, "start" or "delete"; `address` is containerd's gRPC socket; `bundle` is set by delete only.

    `version` and `info` are questions that need nothing else.
    """

    __slots__ = ("action", "address", "bundle", "id", "info", "namespace", "version")

    def __init__(self, action: str, flags: dict[str, str]) -> None:
        """`flags` without their dashes."""
        self.action = action
        self.namespace = flags.get("namespace", "")
        self.id = flags.get("id", "")
        self.address = flags.get("address", "")
        self.bundle = flags.get("bundle", "")
        self.version = flags.get("v") == "true"
        self.info = flags.get("info") == "true"


def parse(words: list[str]) -> Arguments:
    """Parse everything after the program's name. Raises ValueError, naming the word, for what containerd never says."""
    flags: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).lstrip("-").partition("=")
        if name in _SWITCHES:
            flags[name] = value or "true"
        elif name not in _VALUES or not (equals or rest):
            raise ValueError(f"unknown or incomplete flag {name}")
        else:
            flags[name] = value if equals else rest.pop(0)
    if len(rest) > 1 or (rest and rest[0] not in {"start", "delete"}):
        raise ValueError(f"unknown action {' '.join(rest)}")
    return Arguments(rest[0] if rest else "", flags)
