"""The simulated CPU's fuses: 32 random bytes in a file, made once."""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Permanent

if TYPE_CHECKING:
    from pathlib import Path

ROOT_SECRET_BYTES: Final = 32


def root_secret(path: Path) -> bytes:
    """The secret at `path`; made there, mode 0600, when there is none. Whoever reads this file owns every enclave.

    The file appears whole or not at all, and never replaces another: a crash while it is made leaves no short secret,
    and two daemons cannot each believe in their own. `Permanent(INPUT)` when it has another length or owner, or when
    its mode lets anyone else read it.
    """
    if not path.exists():
        _create(path)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        secret = os.read(fd, ROOT_SECRET_BYTES + 1)
    finally:
        os.close(fd)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != 0o600 or len(secret) != ROOT_SECRET_BYTES:
        raise Permanent(
            Code.INPUT,
            "the simulated CPU's root secret is not as it was made",
            expected=f"{ROOT_SECRET_BYTES} bytes, mode 0600, owner {os.geteuid()}",
            got=f"{status.st_size} bytes, mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}",
            advice="treat it as read by others: remove the whole state directory, and what was sealed is lost",
        )
    return secret


def _create(path: Path) -> None:
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_bytes(ROOT_SECRET_BYTES))
        os.fsync(fd)
        os.link(unfinished, path)
    except FileExistsError:
        pass  # another daemon was first: its secret is the one
    finally:
        os.close(fd)
        unfinished.unlink()
