"""Where everything lies on a node: by the node's own view, and by that of this process.

Zone: host. May import: the standard library.

A Job has the node's root mounted somewhere: it writes to `/node/etc/...` what the node shall read as `/etc/...`. On the
node itself both are one. A node that lives in a folder of another machine, as in tests, calls its files by that folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAYLOADS: Final = "opt/enclave-cc"
CURRENT: Final = "opt/enclave-cc/current"
NODE_CONFIG: Final = "etc/enclave-cc/node.toml"
STATE: Final = "var/lib/enclave-cc/node"
JOURNAL: Final = f"{STATE}/journal"
RECORD: Final = f"{STATE}/installed.json"
RUN: Final = "run/enclave-cc-node"
"""Not /run/enclave-cc, which is the services' own: the lock and what a preflight writes; gone with a reboot."""
LOCK: Final = f"{RUN}/lock"


@dataclass(frozen=True, slots=True)
class Places:
    """`root`: where this process sees the node's root. `seen_as`: what the node's own processes call that folder."""

    root: Path
    seen_as: Path = Path("/")

    def here(self, relative: str) -> Path:
        """Where this process finds a file, given without a leading slash."""
        return self.root / relative

    def there(self, relative: str) -> str:
        """What the node calls it."""
        return str(self.seen_as / relative)

    def reach(self, seen: str) -> Path:
        """Where this process finds what the node calls `seen`, an absolute path."""
        path = Path(seen)
        return self.root / path.relative_to(self.seen_as) if path.is_relative_to(self.seen_as) else path

    def relative(self, seen: str) -> str:
        """`seen` without the node's root. Raises ValueError for what lies outside of it."""
        return str(Path(seen).relative_to(self.seen_as))

    @property
    def foreign(self) -> bool:
        """Whether the node's programs must be run in its root to find their own files."""
        return self.root != self.seen_as


def payload_folder(digest: str) -> str:
    """Where the payload of a digest (`sha256:...`) is unpacked."""
    return f"{PAYLOADS}/{digest.removeprefix('sha256:')[:16]}"
