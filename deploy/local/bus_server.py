"""nats-server's configuration file for one stack.

Zone: host. May import: `deploy.local.{authority,bus_accounts}`.

`sync_interval: always`: an acknowledged fact survives a power loss (the server's default lost all of them).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from deploy.local.authority import ServerFiles
from deploy.local.bus_accounts import BusAccounts

DISK_BYTES: Final = 8 << 30
"""What JetStream may use: more than the streams' own `max_bytes` together, so that a full stream is what refuses."""


def configuration(accounts: BusAccounts, files: ServerFiles, port: int, store: Path) -> str:
    """The text of `nats.conf`. Listens on 127.0.0.1 only; pods come through their doors."""
    return f"""server_name: enclave-cc
listen: "127.0.0.1:{port}"
{identities(accounts)}tls: {{
  cert_file: {json.dumps(str(files.certificate))}
  key_file: {json.dumps(str(files.key))}
  min_version: "1.3"
  timeout: 5
}}
jetstream: {{
  store_dir: {json.dumps(str(store))}
  max_file_store: {DISK_BYTES}
  max_memory_store: {64 << 20}
  sync_interval: always
}}
"""


def identities(accounts: BusAccounts) -> str:
    """The lines that say whom a server believes: operator, accounts, and that there are no others."""
    preload = "\n".join(
        f"  {account}: {json.dumps(jwt)}"
        for account, jwt in ((accounts.account, accounts.account_jwt), (accounts.system, accounts.system_jwt))
    )
    return f"""operator: {json.dumps(accounts.operator_jwt)}
system_account: {accounts.system}
resolver: MEMORY
resolver_preload: {{
{preload}
}}
"""
