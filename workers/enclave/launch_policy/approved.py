"""The process that the owner's policy admits, and its encoding for the attested channel to the boot init.

The encoding is canonical JSON (members sorted, no blanks, UTF-8), version 1: its SHA-256 is the config digest of the
fact, so that one approval has one digest. It holds no secret's value, but it goes to the boot init encrypted like one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code
from workers.enclave.image.document import parse_object
from workers.enclave.launch_policy.proposal import Capabilities, Rlimit

if TYPE_CHECKING:
    from workers.enclave.image.document import Node

_LONGEST: Final = 4 * 1024 * 1024
_MOST: Final = 8192
_MOST_LIMIT: Final = (1 << 64) - 1
_NUMBER: Final = re.compile(r"[0-9]{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApprovedMount:
    """A mount from the host's side: `kind` is `bind` or `tmpfs`. Always nosuid and nodev.

    A bind is host data, with the `sha256` (hex) of its tree where the policy names one; or, with the name of a
    `volume`, ciphertext under a key made from the resource `key`, or from the pod's own where that is empty.
    """

    destination: str
    kind: str
    source: str
    read_only: bool
    sha256: str = ""
    volume: str = ""
    key: str = ""

    @property
    def is_host_data(self) -> bool:
        """Whether what the host has there is taken as it is."""
        return self.kind == "bind" and not self.volume


@dataclass(frozen=True, slots=True)
class ApprovedSecret:
    """A resource to fetch and deliver: exactly one of `path` and `env` is not empty. `mode` is the file's."""

    uri: str
    path: str
    mode: int
    env: str


@dataclass(frozen=True, slots=True)
class ApprovedProcess:
    """What to start. The boot init applies it as it stands; nothing else of the host's proposal counts.

    `user` is `name-or-uid[:group-or-gid]`, to be resolved inside with `accounts.Accounts`. `hostname` is empty where
    the pod's own stays. `env` holds `NAME=value`. `verdict` is for a person and a fact. `memory_limit` is what the host
    gives, in bytes, 0 for as much as there is.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    additional_gids: tuple[int, ...]
    capabilities: Capabilities
    rlimits: tuple[Rlimit, ...]
    no_new_privileges: bool
    terminal: bool
    mounts: tuple[ApprovedMount, ...]
    secrets: tuple[ApprovedSecret, ...]
    hostname: str
    read_only_root: bool
    policy_id: str
    rule: str
    verdict: str
    memory_limit: int = 0

    @property
    def uid(self) -> int | None:
        """The number of the user, where the user is given as one."""
        return _number(self.user.partition(":")[0])

    @property
    def gid(self) -> int | None:
        """The number of the group, where the group is given as one."""
        return _number(self.user.partition(":")[2])

    @property
    def secret_uris(self) -> tuple[str, ...]:
        """What the agent asks the key broker for and hands on as it is, each once."""
        return tuple(dict.fromkeys(secret.uri for secret in self.secrets))

    @property
    def volumes(self) -> tuple[ApprovedMount, ...]:
        """The mounts that hold ciphertext."""
        return tuple(mount for mount in self.mounts if mount.volume)

    @property
    def host_data(self) -> tuple[ApprovedMount, ...]:
        """The mounts that hold the host's own words."""
        return tuple(mount for mount in self.mounts if mount.is_host_data)

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the encoding."""
        return f"sha256:{hashlib.sha256(self.encode()).hexdigest()}"

    def encode(self) -> bytes:
        """The canonical encoding."""
        document = {"version": 1, **dataclasses.asdict(self)}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, raw: bytes) -> ApprovedProcess:
        """Read an encoding.

        Raises:
            Permanent: CONFIG_POLICY, naming the place.
        """
        node = parse_object(raw, what="approved process", code=Code.CONFIG_POLICY, limit=_LONGEST)
        node.need("version").whole(least=1, most=1)
        sets = node.need("capabilities")
        approved = cls(
            argv=_texts(node.need("argv")),
            env=_texts(node.need("env")),
            cwd=node.need("cwd").text(),
            user=node.need("user").text(),
            additional_gids=tuple(e.whole(most=_MOST_LIMIT) for e in node.need("additional_gids").elements(most=_MOST)),
            capabilities=Capabilities(**{f.name: _texts(sets.need(f.name)) for f in dataclasses.fields(Capabilities)}),
            rlimits=tuple(_rlimit(entry) for entry in node.need("rlimits").elements(most=_MOST)),
            no_new_privileges=node.need("no_new_privileges").flag(),
            terminal=node.need("terminal").flag(),
            mounts=tuple(_mount(entry) for entry in node.need("mounts").elements(most=_MOST)),
            secrets=tuple(_secret(entry) for entry in node.need("secrets").elements(most=_MOST)),
            hostname=node.need("hostname").text(),
            read_only_root=node.need("read_only_root").flag(),
            policy_id=node.need("policy_id").text(),
            rule=node.need("rule").text(),
            verdict=node.need("verdict").text(),
            memory_limit=node.need("memory_limit").whole(most=_MOST_LIMIT),
        )
        node.finish()
        return approved


def _texts(node: Node) -> tuple[str, ...]:
    return tuple(entry.text() for entry in node.elements(most=_MOST))


def _rlimit(node: Node) -> Rlimit:
    limit = node.need("soft").whole(most=_MOST_LIMIT), node.need("hard").whole(most=_MOST_LIMIT)
    return Rlimit(node.need("kind").text(), *limit)


def _mount(node: Node) -> ApprovedMount:
    return ApprovedMount(
        node.need("destination").text(),
        node.need("kind").text(),
        node.need("source").text(),
        read_only=node.need("read_only").flag(),
        sha256=node.need("sha256").text(),
        volume=node.need("volume").text(),
        key=node.need("key").text(),
    )


def _secret(node: Node) -> ApprovedSecret:
    return ApprovedSecret(
        node.need("uri").text(), node.need("path").text(), node.need("mode").whole(most=0o777), node.need("env").text()
    )


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None
