"""The bus's identities for one stack: an operator, an account with JetStream, a user for each role.

Zone: host. May import: `nkeys`, `workers.host.bus_users`.

The operator's seed and the roles' sign once and are forgotten: nothing on disk can widen a permission. A stack that
needs other permissions is made anew. Only `deploy.cluster` keeps the operator's, on an administrator's own disk: a
cluster's credentials are renewed while its histories stay, which JetStream keeps under the account's public key.

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
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Root:
    """What stays when credentials are renewed: the operator's seed, and the two accounts' public keys."""

    operator_seed: str = field(repr=False)
    account: str
    system: str

    @classmethod
    def generate(cls) -> Root:
        """A new bus. The accounts' own seeds are forgotten at once: only signing keys ever sign."""
        keys = [_new_key(kind) for kind in (nkeys.PREFIX_BYTE_OPERATOR, *[nkeys.PREFIX_BYTE_ACCOUNT] * 2)]
        return cls(keys[0][0], keys[1][1], keys[2][1])


@dataclass(frozen=True, slots=True)
class Identities:
    """All that `issue` makes: `credentials` are NATS credentials files by role, `agents` signs pods' agents."""

    accounts: BusAccounts
    credentials: dict[str, str] = field(repr=False)
    agents: AgentSigner = field(repr=False)


def inbox(role: str) -> str:
    """The inbox prefix of a role's clients."""
    return f"_INBOX_{role}"


def create(folder: Path, disk_bytes: int) -> BusAccounts:
    """Make the identities; write `<role>.creds` and `agents.json` (the agents' scoped key) to `folder`, 0600."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = Root.generate()
    made = issue(root, disk_bytes, new_agents(root))
    for role, text in made.credentials.items():
        path = folder / f"{role}.creds"
        path.touch(mode=0o600)
        path.write_text(text)
    made.agents.save(folder / "agents.json")
    return made.accounts


def new_agents(root: Root) -> AgentSigner:
    """A key that signs agents of this bus, once `issue` has named it in the account."""
    return AgentSigner(root.account, _new_key(nkeys.PREFIX_BYTE_ACCOUNT)[0])


def issue(root: Root, disk_bytes: int, agents: AgentSigner) -> Identities:
    """A user for each role under a new signing key: whoever has credentials of an earlier one is out.

    Agents keep theirs as long as `agents` stays the same.
    """
    operator_key = nkeys.from_seed(bytearray(root.operator_seed.encode())).public_key.decode()
    roles, roles_key = _new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    agents_key = nkeys.from_seed(bytearray(agents.seed.encode())).public_key.decode()
    account_claims: dict[str, object] = {
        "type": "account",
        "version": 2,
        "limits": _limits(disk_bytes),
        "signing_keys": [roles_key, scope(agents_key)],
    }
    operator_claims = {"type": "operator", "version": 2, "system_account": root.system}
    system_claims = {"type": "account", "version": 2, "limits": _limits(0)}
    accounts = BusAccounts(
        operator_jwt=sign_claims(root.operator_seed, "enclave-cc", operator_key, operator_claims),
        account=root.account,
        account_jwt=sign_claims(root.operator_seed, "enclave-cc", root.account, account_claims),
        system=root.system,
        system_jwt=sign_claims(root.operator_seed, "SYS", root.system, system_claims),
    )
    return Identities(accounts, {role: _credentials(role, roles, root.account) for role in ROLES}, agents)


def _credentials(role: str, signing_seed: str, account: str) -> str:
    seed, public = _new_key(nkeys.PREFIX_BYTE_USER)
    deny = _NOT_THE_DISPATCHERS if role in {"worker", "shim", "operator", "reader"} else ()
    granted = permissions(MAY_PUBLISH[role], (f"{inbox(role)}.>", *MAY_SUBSCRIBE[role]), deny)
    answers = {"resp": {"max": 1, "ttl": ANSWER_WITHIN}} if role == "worker" else {}
    claims = {"type": "user", "version": 2, "issuer_account": account, **granted, **answers}
    jwt = sign_claims(signing_seed, role, public, claims)
    return (
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
