"""What somebody who has entered may do.

Zone: host. May import: the standard library.

There is one thing to do today: to read. A page that changes something (resume, fork, stop) would be one line in
`app.PAGES` with `Role.OPERATOR`, and is then closed to readers; the console's credentials on the bus, which are a
reader's, would have to be others too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """Each may do what the ones before it may."""

    NOBODY = 0
    READER = 1
    OPERATOR = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """Who has entered: the name that pages show, the role, and by which door (`token`, `oidc`)."""

    name: str
    role: Role
    door: str


NOBODY = Identity("", Role.NOBODY, "")
