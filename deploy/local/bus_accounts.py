"""The bus's identities for one stack: an operator, an account with JetStream, a user for each role.

Zone: host. May import: `nkeys`, `workers.host.bus_users`.

The operator's and the account's seeds sign once and are forgotten: nothing on disk can widen a permission. A stack that
needs other permissions is made anew.

Roles and what each may do (`INBOX` is `_INBOX_<role>`; every client must connect with that prefix):

- `admin`: creates the streams when a stack starts, and nothing runs as it afterwards.
- `orchestrator`: reads everything, appends to every history, queues commands, keeps the consumers of both.
- `worker`: a node's: appends, reads, takes its commands, answers requests, makes and removes its pods' consumers.
- `shim`: appends what containerd asked, reads histories, asks its node.
- `operator`: a person's command line: reads, and appends resume, fork and stop.
- `reader`: console and audit log: reads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import nkeys

from workers.host.bus_users import AgentSigner, permissions, scope, sign_claims

_READ: Final = (
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.NAMES",
    "$JS.API.CONSUMER.CREATE.EV.>",
    "$JS.API.CONSUMER.INFO.EV.*",
    "$JS.API.CONSUMER.MSG.NEXT.EV.*",
    "$JS.API.CONSUMER.DELETE.EV.*",
    "$JS.API.DIRECT.GET.EV.>",
    "$JS.API.DIRECT.GET.EV",
    "$JS.FC.EV.>",
)
_NOT_THE_DISPATCHERS: Final = tuple(
    f"$JS.API.CONSUMER.{verb}" for verb in ("CREATE.EV.dispatch.>", "CREATE.EV.dispatch", "DELETE.EV.dispatch")
)
"""The consumer that all orchestrators share: whoever alters it decides which facts they see."""

MAY_PUBLISH: Final = {
    "admin": ("$JS.API.INFO", "$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.INFO.*"),
    "orchestrator": (
        *_READ,
        "ev.*.*",
        "cmd.>",
        "req.host.>",
        "$JS.API.CONSUMER.>",
        "$JS.API.STREAM.MSG.DELETE.CMD",
        "$JS.API.STREAM.MSG.GET.*",
        "$JS.API.DIRECT.GET.>",
        "$JS.ACK.>",
    ),
    "worker": (
        *_READ,
        "ev.*.*",
        "$JS.API.CONSUMER.DURABLE.CREATE.CMD.*",
        "$JS.API.CONSUMER.CREATE.CMD.>",
        "$JS.API.CONSUMER.INFO.CMD.*",
        "$JS.API.CONSUMER.DELETE.CMD.*",
        "$JS.API.CONSUMER.MSG.NEXT.CMD.*",
        "$JS.ACK.CMD.>",
    ),
    "shim": (*_READ, "ev.*.*", "req.host.>"),
    "operator": (*_READ, "ev.*.*", "req.host.>"),
    "reader": _READ,
}
MAY_SUBSCRIBE: Final = {
    "admin": (),
    "orchestrator": ("ev.*.*", "$JS.EVENT.ADVISORY.>"),
    "worker": ("ev.*.*", "req.host.>"),
    "shim": ("ev.*.*",),
    "operator": ("ev.*.*",),
    "reader": ("ev.*.*",),
}
ROLES: Final = tuple(MAY_PUBLISH)

ANSWER_WITHIN: Final = 60 * 10**9
"""Nanoseconds in which a worker may answer the request that named the reply subject, once."""


@dataclass(frozen=True, slots=True)
class BusAccounts:
    """The public side, for the server's configuration. Three JWTs and the two accounts' public keys."""

    operator_jwt: str
    account: str
    account_jwt: str
    system: str
    system_jwt: str


def inbox(role: str) -> str:
    """The inbox prefix of a role's clients."""
    return f"_INBOX_{role}"


def create(folder: Path, disk_bytes: int) -> BusAccounts:
    """Make the identities; write `<role>.creds` and `agents.json` (the agents' scoped key) to `folder`, 0600."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    operator, operator_key = _new_key(nkeys.PREFIX_BYTE_OPERATOR)
    _, account_key = _new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    _, system_key = _new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    roles, roles_key = _new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    agents, agents_key = _new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    account_claims: dict[str, object] = {
        "type": "account",
        "version": 2,
        "limits": _limits(disk_bytes),
        "signing_keys": [roles_key, scope(agents_key)],
    }
    for role in ROLES:
        _write_credentials(folder / f"{role}.creds", role, roles, account_key)
    AgentSigner(account_key, agents).save(folder / "agents.json")
    operator_claims = {"type": "operator", "version": 2, "system_account": system_key}
    system_claims = {"type": "account", "version": 2, "limits": _limits(0)}
    return BusAccounts(
        operator_jwt=sign_claims(operator, "enclave-cc", operator_key, operator_claims),
        account=account_key,
        account_jwt=sign_claims(operator, "enclave-cc", account_key, account_claims),
        system=system_key,
        system_jwt=sign_claims(operator, "SYS", system_key, system_claims),
    )


def _write_credentials(path: Path, role: str, signing_seed: str, account: str) -> None:
    seed, public = _new_key(nkeys.PREFIX_BYTE_USER)
    deny = _NOT_THE_DISPATCHERS if role in {"worker", "shim", "operator", "reader"} else ()
    granted = permissions(MAY_PUBLISH[role], (f"{inbox(role)}.>", *MAY_SUBSCRIBE[role]), deny)
    answers = {"resp": {"max": 1, "ttl": ANSWER_WITHIN}} if role == "worker" else {}
    claims = {"type": "user", "version": 2, "issuer_account": account, **granted, **answers}
    jwt = sign_claims(signing_seed, role, public, claims)
    path.touch(mode=0o600)
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def _new_key(kind: int) -> tuple[str, str]:
    """`(seed, public key)` of a fresh nkey."""
    seed = nkeys.encode_seed(os.urandom(32), kind)
    return seed.decode(), nkeys.from_seed(bytearray(seed)).public_key.decode()


def _limits(disk_bytes: int) -> dict[str, object]:
    """No limits but the disk's; an account with none may not use JetStream."""
    unlimited = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    if not disk_bytes:
        return {**unlimited, "wildcards": True}
    jetstream = {"mem_storage": 64 << 20, "disk_storage": disk_bytes, "streams": -1, "consumer": -1}
    return {**unlimited, "wildcards": True, **jetstream}
