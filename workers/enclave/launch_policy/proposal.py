"""What the host proposes: the parts of an OCI runtime specification that reach the process inside the enclave.

Everything else in the specification (namespaces, cgroups, seccomp, hooks, labels) shapes the container around the
enclave, which is the host's own; inside, the boot init applies its own. Members of `process` that are unknown here are
denied: they are instructions, and one that is not understood cannot be judged.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code
from workers.enclave.image.document import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

CAPABILITY_RULE: Final = re.compile(r"CAP_[A-Z_]{1,32}", re.ASCII)
RLIMIT_RULE: Final = re.compile(r"RLIMIT_[A-Z]{1,16}", re.ASCII)
USER_RULE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?", re.ASCII)
_NO_NUL: Final = re.compile(r"[^\0]*")
_VARIABLE: Final = re.compile(r"[^=\0]+=[^\0]*")

_MOST: Final = 4096
_MOST_ID: Final = (1 << 32) - 2
"""The greatest uid and gid; 2**32-1 means "unchanged" to the kernel."""

_WITHOUT_MEANING_INSIDE: Final = (
    "apparmorProfile",
    "commandLine",
    "consoleSize",
    "execCPUAffinity",
    "ioPriority",
    "oomScoreAdj",
    "scheduler",
    "selinuxLabel",
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The five sets of capabilities(7), each sorted."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()

    def every(self) -> frozenset[str]:
        """What stands in any of the sets."""
        return frozenset((*self.bounding, *self.effective, *self.permitted, *self.inheritable, *self.ambient))


@dataclass(frozen=True, slots=True)
class Rlimit:
    """One limit of getrlimit(2)."""

    kind: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class ProposedMount:
    """One mount of the specification. `kind` is `bind` where an option says so."""

    destination: str
    kind: str
    source: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Proposal:
    """The host's wish, parsed. `env` holds `(name, value)`; `memory_limit` is the cgroup's in bytes, 0 for none."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    uid: int
    gid: int
    additional_gids: tuple[int, ...]
    capabilities: Capabilities
    rlimits: tuple[Rlimit, ...]
    no_new_privileges: bool
    terminal: bool
    mounts: tuple[ProposedMount, ...]
    devices: tuple[str, ...]
    hostname: str
    read_only_root: bool
    memory_limit: int = 0


def parse_proposal(specification: Mapping[str, object]) -> Proposal:
    """Parse an OCI runtime specification (config.md and config-linux.md of version 1).

    Raises:
        Permanent: CONFIG_PROCESS_DENIED, naming the place that cannot be judged.
    """
    document = Node(dict(specification), "proposed OCI specification", "", Code.CONFIG_PROCESS_DENIED)
    process, root, hostname = document.need("process"), document.get("root"), document.get("hostname")
    user, linux = process.need("user"), document.get("linux")
    for name in _WITHOUT_MEANING_INSIDE:
        process.get(name)
    proposal = Proposal(
        argv=tuple(word.text(_NO_NUL) for word in process.need("args").elements(most=_MOST)),
        env=_env(process.get("env")),
        cwd=_directory(process.need("cwd")),
        uid=_id(user.get("uid")),
        gid=_id(user.get("gid")),
        additional_gids=tuple(_id(entry) for entry in _elements(user.get("additionalGids"))),
        capabilities=_capabilities(process.get("capabilities")),
        rlimits=tuple(_rlimit(entry) for entry in _elements(process.get("rlimits"))),
        no_new_privileges=_flag(process.get("noNewPrivileges")),
        terminal=_flag(process.get("terminal")),
        mounts=tuple(_mount(entry) for entry in _elements(document.get("mounts"))),
        devices=tuple(d.need("path").text(_NO_NUL) for d in _elements(linux.get("devices") if linux else None)),
        hostname=hostname.text(longest=253) if hostname else "",
        read_only_root=_flag(root.get("readonly") if root else None),
        memory_limit=_memory_limit(linux),
    )
    process.finish()
    return proposal


def is_plain_path(path: str) -> bool:
    """Whether `path` is absolute, below the root, normal (no '.', '..', '//', '/' at the end) and without NUL."""
    # normpath keeps two leading slashes, which POSIX lets mean something of their own.
    plain = path.startswith("/") and not path.startswith("//") and path != "/" and "\0" not in path
    return plain and posixpath.normpath(path) == path


def normal_directory(path: str) -> str | None:
    """`path` without doubled and closing slashes, which images do write; None where it is relative or climbs."""
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        return None
    return posixpath.normpath("/" + path.strip("/"))


def _env(node: Node | None) -> tuple[tuple[str, str], ...]:
    pairs = []
    for entry in _elements(node):
        name, _, value = entry.text(_VARIABLE).partition("=")
        pairs.append((name, value))
    if node and len({name for name, _ in pairs}) != len(pairs):
        raise node.malformed("each variable once", "one twice")
    return tuple(pairs)


def _path(node: Node) -> str:
    path = node.text(longest=4096)
    if path != "/" and not is_plain_path(path):
        raise node.malformed("an absolute, normal path", repr(path[:200]))
    return path


def _directory(node: Node) -> str:
    directory = node.text(longest=4096)
    normal = normal_directory(directory)
    if normal is None:
        raise node.malformed("an absolute path without '..'", repr(directory[:200]))
    return normal


def _capabilities(node: Node | None) -> Capabilities:
    if node is None:
        return Capabilities()
    sets = Capabilities(
        *(
            tuple(sorted({entry.text(CAPABILITY_RULE) for entry in _elements(node.get(name))}))
            for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        )
    )
    node.finish()
    return sets


def _rlimit(node: Node) -> Rlimit:
    most = (1 << 64) - 1
    return Rlimit(
        node.need("type").text(RLIMIT_RULE), node.need("soft").whole(most=most), node.need("hard").whole(most=most)
    )


def _mount(node: Node) -> ProposedMount:
    kind, source = node.get("type"), node.get("source")
    options = {entry.text(_NO_NUL) for entry in _elements(node.get("options"))}
    bound = not options.isdisjoint({"bind", "rbind"})
    return ProposedMount(
        _path(node.need("destination")),
        "bind" if bound or kind is None else kind.text(_NO_NUL),
        source.text(_NO_NUL) if source else "",
        "ro" in options,
    )


def _memory_limit(linux: Node | None) -> int:
    """Linux: a limit of -1 is none, and so is one that no machine reaches (PAGE_COUNTER_MAX)."""
    node = linux
    for name in ("resources", "memory", "limit"):
        node = node.get(name) if node else None
    limit = node.whole(least=-1, most=(1 << 64) - 1) if node else 0
    return limit if 0 < limit < 1 << 60 else 0


def _elements(node: Node | None) -> list[Node]:
    return node.elements(most=_MOST) if node else []


def _id(node: Node | None) -> int:
    return node.whole(most=_MOST_ID) if node else 0


def _flag(node: Node | None) -> bool:
    return node.flag() if node else False
