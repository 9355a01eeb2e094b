"""Users of the bus for pod agents: who an agent is, and the only subjects it may touch.

Zone: host. May import: `nkeys`, `orchestrator.{faults,bus}`, the standard library.

The bus runs in NATS operator mode: a user is a signed JWT, so that a new pod needs no change at the server. The key
that signs agents is *scoped*: the account itself carries the permission list below, as a template filled in by the
server from the user's name (the pod) and its tag (the shard). Whoever holds the key can make agents, each confined to
one pod, and nothing else.

Deliberately not granted, tried against a real server:

- `$JS.API.DIRECT.GET...`: the server stores its answer wherever the reply subject points, with a payload the agent
  chose, so it would reach another pod's history.
- Any consumer but the agent's own, by name: creating one that exists with another filter would alter it.
- Creating, altering, purging or deleting streams.

What remains is the acknowledgement of an append: with a crafted reply subject the server's own `{"stream": ...}` line
can be sent to any subject. Readers of histories skip what is no fact.

Formats: JWT v2 of github.com/nats-io/jwt, nkeys of github.com/nats-io/nkeys.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import nkeys

from orchestrator.bus import subjects
from orchestrator.faults import Code, Permanent

AGENT_ROLE: Final = "agent"
_POD: Final = "{{name()}}"
_SHARD: Final = "{{tag(shard)}}"
_USER_KEY: Final = re.compile(r"U[A-Z2-7]{55}")

AGENT_MAY_PUBLISH: Final = (
    f"ev.{_SHARD}.{_POD}",
    f"$JS.API.CONSUMER.INFO.CMD.pod-{_POD}",
    f"$JS.API.CONSUMER.MSG.NEXT.CMD.pod-{_POD}",
    f"$JS.ACK.CMD.pod-{_POD}.>",
    f"$JS.API.CONSUMER.CREATE.EV.pod-{_POD}.ev.{_SHARD}.{_POD}",
    f"$JS.API.CONSUMER.MSG.NEXT.EV.pod-{_POD}",
    f"$JS.API.CONSUMER.DELETE.EV.pod-{_POD}",
)
"""Append to its own history, take and acknowledge its own commands, read its own history through one consumer."""

AGENT_MAY_SUBSCRIBE: Final = (f"_INBOX_{_POD}.>", f"ev.{_SHARD}.{_POD}")
"""Answers to its own requests, and the wake-up that its own history grew."""


@dataclass(frozen=True, slots=True)
class AgentSigner:
    """The account's scoped signing key. `account` and the seed's public half are nkeys of the kind A."""

    account: str
    seed: str

    @classmethod
    def load(cls, path: Path) -> AgentSigner:
        """Read what `save` wrote. Raises Permanent(INPUT)."""
        try:
            members = json.loads(path.read_text())
            return cls(account=str(members["account"]), seed=str(members["seed"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Permanent(
                Code.INPUT,
                "the key that signs agents' bus users cannot be read",
                expected="a file with the members account and seed",
                got=f"{path}: {type(error).__name__}",
                advice="`enclave-cc up` makes it; its owner is root",
            ) from error

    def text(self) -> str:
        """The file that `load` reads."""
        return json.dumps({"account": self.account, "seed": self.seed})

    def save(self, path: Path) -> None:
        """Write it for its owner only."""
        path.touch(mode=0o600)
        path.write_text(self.text())


def agent_inbox(pod: str) -> str:
    """The inbox prefix that the agent must connect with."""
    return f"_INBOX_{subjects.token('pod id', pod)}"


def agent_reader(pod: str) -> str:
    """The one consumer by which the agent may read its history."""
    return f"pod-{subjects.token('pod id', pod)}"


def mint_agent_user(signer: AgentSigner, agent_nkey: str, pod: str) -> str:
    """A user JWT by which the holder of `agent_nkey` (public, kind U) is the agent of `pod` and nobody else.

    Raises Permanent(INPUT) for a key or a pod id that is not one. Never mint for a pod's second key: a JWT does not
    expire, and the first key is of the enclave that the host started.
    """
    if not _USER_KEY.fullmatch(agent_nkey):
        raise Permanent(
            Code.INPUT,
            "the agent's bus key is not a user nkey",
            expected="U and 55 characters of base32",
            got=repr(agent_nkey[:60]),
            advice="send the public half of an Ed25519 nkey of the kind user",
        )
    claims: dict[str, object] = {
        "type": "user",
        "version": 2,
        "issuer_account": signer.account,
        "tags": [f"shard:{subjects.shard(pod)}"],
    }
    return sign_claims(signer.seed, subjects.token("pod id", pod), agent_nkey, claims)


def scope(public_signing_key: str) -> dict[str, object]:
    """The account's entry for the key that signs agents: what such users may do, filled in for each by the server."""
    template = permissions(AGENT_MAY_PUBLISH, AGENT_MAY_SUBSCRIBE)
    return {"kind": "user_scope", "key": public_signing_key, "role": AGENT_ROLE, "template": template}


def permissions(publish: Sequence[str], subscribe: Sequence[str], deny: Sequence[str] = ()) -> dict[str, object]:
    """The permission members of a user, with the limits that mean none: `subs`, `data` and `payload` of -1."""
    pub: dict[str, object] = {"allow": list(publish)}
    if deny:
        pub["deny"] = list(deny)
    return {"pub": pub, "sub": {"allow": list(subscribe)}, "subs": -1, "data": -1, "payload": -1}


def sign_claims(seed: str, name: str, subject: str, nats: Mapping[str, object]) -> str:
    """A NATS JWT: `ed25519-nkey` over `header.claims`; `jti` is the base32 SHA-512/256 of the claims without it."""
    signer = nkeys.from_seed(bytearray(seed.encode()))
    claims: dict[str, object] = {
        "iat": int(time.time()),
        "iss": signer.public_key.decode(),
        "jti": "",
        "name": name,
        "nats": dict(nats),
        "sub": subject,
    }
    digest = hashlib.new("sha512_256", _json(claims)).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    signed = f"{_base64(_json({'alg': 'ed25519-nkey', 'typ': 'JWT'}))}.{_base64(_json(claims))}"
    return f"{signed}.{_base64(signer.sign(signed.encode()))}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
