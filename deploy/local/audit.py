"""A stack's audit log: its key, and the policy that names it.

Zone: host. May import: `deploy.local.layout`, `orchestrator.audit`.

They lie beside the settings of the command line, where `enclave-cc audit` looks for them. Nobody witnesses a log of one
machine until its owner names witnesses in the policy: docs/operations/audit.md.
"""

from __future__ import annotations

import os
import secrets

from deploy.local.layout import Layout
from orchestrator.audit.note import SigningKey

_HEAD = (
    "# Whom `enclave-cc audit` believes (c2sp.org/tlog-policy). Keep a copy elsewhere: this machine can replace it.\n"
)


def create(where: Layout) -> None:
    """Make the key, which only this user reads, and the policy. Two stacks of one name have two logs."""
    key = SigningKey.generate(f"{where.name}-{secrets.token_hex(4)}/audit")
    descriptor = os.open(where.audit_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key.secret_text())
    (where.root / "audit.policy").write_text(f"{_HEAD}log {key.verifier()}\nquorum none\n")
