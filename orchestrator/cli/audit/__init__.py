"""`enclave-cc audit`: the transparency log over all histories.

Zone: host for `run`; whoever audits for the rest. May import: `click`, `orchestrator`, `uvicorn`, the standard library.

- `places`: where the log lies and whom to believe about it. `lines`: what one entry looks like.
- `serving`: run, witness, keygen. `reading`: tail, search, show, export. `proving`: checkpoint, prove, verify, fsck.
"""

from __future__ import annotations

import click

from orchestrator.cli.audit.proving import checkpoint, fsck, prove, verify
from orchestrator.cli.audit.reading import export, search, show, tail
from orchestrator.cli.audit.serving import keygen, run, witness


@click.group()
def audit() -> None:
    """The audit log: every fact of every launch, in a transparency log that anyone can check offline."""


for _command in (tail, search, show, verify, prove, export, fsck, checkpoint, run, witness, keygen):
    audit.add_command(_command)
