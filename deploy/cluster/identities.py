"""The secrets of a cluster's control plane: who may enter the bus, who its servers are, what signs the audit log.

Zone: host. May import: `cryptography`, `deploy.{kbs.certificates,local}`, `orchestrator`.

Each `Secret` is for one kind of process and holds no more than that needs: a node whose kubelet is taken over has what
its pods mount, and of these nothing but `bus-node` is ever mounted on a node that runs enclaves alone.

| secret | mounted by | holds |
|---|---|---|
| `bus-server` | bus | the accounts, certificates for clients and for the other servers |
| `bus-admin` | the Job that makes the streams | may create streams |
| `bus-orchestrator` | orchestrator | reads, appends, commands |
| `bus-reader` | audit writer, console, the chart's test | reads |
| `bus-operator` | nobody: for people who resume, fork and stop | reads, appends orders |
| `bus-node` | what sets a node up | a worker's and its shims' credentials, what signs agents, whose orders count |
| `audit` | audit writer; the console its policy | the log's key, and the policy that names it |
| `console` | console | the token to sign in with, and a certificate |

A renewal replaces users and certificates; accounts stay, because JetStream keeps histories under the account's key.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from deploy.kbs.certificates import Authority, Credential
from deploy.local import bus_accounts, bus_server
from orchestrator.audit.note import SigningKey
from orchestrator.bus.operator_key import OperatorKey
from orchestrator.faults import Code, Permanent
from workers.host.bus_users import AgentSigner

SERVER: Final = "bus-server"
NODE: Final = "bus-node"
_MEMBERS: Final = (
    "operator_seed",
    "account",
    "system",
    "agents_seed",
    "authority_certificate",
    "authority_key",
    "servers",
)
_TOKEN_BYTES: Final = 32
_AUTHORITY: Final = "enclave-cc cluster"


@dataclass(frozen=True, slots=True)
class Secret:
    """One Kubernetes secret: its name without the release's, and its files."""

    name: str
    files: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Home:
    """What renews the rest, and nobody else can: an administrator keeps it off the cluster.

    `servers` are the bus's DNS names and addresses.
    """

    root: bus_accounts.Root
    authority: Credential = field(repr=False)
    agents: AgentSigner = field(repr=False)
    servers: tuple[str, ...]

    @classmethod
    def generate(cls, servers: Sequence[str]) -> Home:
        """A new bus with nothing in it."""
        root = bus_accounts.Root.generate()
        return cls(root, Authority(name=_AUTHORITY).credential, bus_accounts.new_agents(root), tuple(servers))

    def with_new_agents(self) -> Home:
        """The same, but whoever holds the key that signs agents now is out, as are the agents of running pods."""
        return replace(self, agents=bus_accounts.new_agents(self.root))

    def text(self) -> str:
        """The file that `parse` reads back, JSON."""
        members = (
            self.root.operator_seed,
            self.root.account,
            self.root.system,
            self.agents.seed,
            self.authority.certificate.decode(),
            self.authority.key.decode(),
            list(self.servers),
        )
        return json.dumps(dict(zip(_MEMBERS, members, strict=True)), indent=1) + "\n"

    @classmethod
    def parse(cls, text: str) -> Home:
        """Raises Permanent(INPUT) for what is no home; nothing of it is in the message."""
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if not isinstance(document, dict) or set(document) != set(_MEMBERS):
            raise _no_home()
        *texts, servers = (document[name] for name in _MEMBERS)
        if not isinstance(servers, list) or not all(isinstance(value, str) for value in (*texts, *servers)):
            raise _no_home()
        seed, account, system, agents, certificate, key = texts
        return cls(
            bus_accounts.Root(seed, account, system),
            Credential(certificate.encode(), key.encode()),
            AgentSigner(account, agents),
            tuple(servers),
        )


def _no_home() -> Permanent:
    return Permanent(
        Code.INPUT,
        "these are no bus's identities",
        expected=f"home.json of `enclave-cc cluster identities`: {', '.join(_MEMBERS)}",
        got="another document",
        advice="the file is made once, with the secrets; a bus whose home is lost keeps what it has until that expires",
    )


def entrances(home: Home, disk_bytes: int) -> list[Secret]:
    """The bus's secrets, anew: certificates for its servers, a user for each role. Earlier users are out."""
    authority = Authority(home.authority)
    issued = bus_accounts.issue(home.root, disk_bytes, home.agents)
    ca = home.authority.certificate
    client, peer = authority.tls_server(home.servers), authority.tls_server(home.servers, calls_its_peers=True)
    credentials = {role: text.encode() for role, text in issued.credentials.items()}
    operators = OperatorKey.parse(issued.credentials["operator"]).public.hex()
    return [
        *(
            Secret(f"bus-{role}", {"ca.pem": ca, f"{role}.creds": credentials[role]})
            for role in ("admin", "orchestrator", "reader", "operator")
        ),
        Secret(
            NODE,
            {
                "ca.pem": ca,
                "worker.creds": credentials["worker"],
                "shim.creds": credentials["shim"],
                "agents.json": issued.agents.text().encode(),
                "operators": f"{operators}\n".encode(),
            },
        ),
        Secret(
            SERVER,
            {
                "accounts.conf": bus_server.identities(issued.accounts).encode(),
                "ca.pem": ca,
                "tls.pem": client.certificate,
                "tls.key": client.key,
                "route.pem": peer.certificate,
                "route.key": peer.key,
            },
        ),
    ]


def beginnings(home: Home, console: Sequence[str], log: str) -> list[Secret]:
    """What is made once and not renewed with the bus: the audit log's key, the console's token and certificate.

    `console` are the names by which browsers call it; `log` is the audit log's name, which its key keeps for good.
    """
    key = SigningKey.generate(log)
    policy = (
        "# Whom `enclave-cc audit` believes (c2sp.org/tlog-policy). Keep a copy: this cluster can replace its own.\n"
        f"log {key.verifier()}\nquorum none\n"
    )
    door = Authority(home.authority).tls_server(console)
    return [
        Secret("audit", {"audit.key": key.secret_text().encode(), "audit.policy": policy.encode()}),
        Secret(
            "console",
            {
                "token": f"{secrets.token_urlsafe(_TOKEN_BYTES)}\n".encode(),
                "tls.pem": door.certificate,
                "tls.key": door.key,
            },
        ),
    ]
