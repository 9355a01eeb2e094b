"""An /etc/passwd and /etc/group for the empty root of an encrypted image's container: its user's name, and no more.

When the CRI creates a container it looks the image's user up in the root file system (containerd oci.WithUser), and
refuses a name that it does not find. Ours is empty, because the real one exists in the enclave only; so the names that
the image's configuration gives stand there with a number that means nothing. The agent resolves them again, from the
decrypted image; the host's number for a name is never used (workers/enclave/launch_policy).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

NOBODY: Final = 65534
"""The number of every name. Not 0: were such a root ever run as it is, nothing in it should be root."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z", re.ASCII)


def write_accounts(root: Path, user: str) -> None:
    """Write both files under `root`, for `user` as an image says it: `name-or-uid[:group-or-gid]`.

    A part that is no name (a number, nothing, or what useradd(8) would refuse) has no entry.
    """
    name, _, group = user.partition(":")
    etc = root / "etc"
    etc.mkdir(mode=0o755, exist_ok=True)
    users = f"{name}:x:{NOBODY}:{NOBODY}::/:/sbin/nologin\n" if _NAME.match(name) else ""
    groups = f"{group}:x:{NOBODY}:\n" if _NAME.match(group) else ""
    for file, text in (("passwd", users), ("group", groups)):
        (etc / file).write_text(text)
        (etc / file).chmod(0o644)
