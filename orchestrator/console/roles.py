"""What somebody who has entered may do.

Zone: host. May import: the standard library.

Reading is all that a console offers unless it was started with an operator's settings; who may then give orders enters
by another token, or is in another group (docs/adr/0025). A page's least role is in `app.PAGES`.
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
