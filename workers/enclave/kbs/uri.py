"""Names of resources at the owner's key broker: `kbs:///repository/type/tag`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrator.faults import Code, Permanent
from schemas.kbs import PREFIX, is_segment

_SCHEME: Final = "kbs:///"


@dataclass(frozen=True, slots=True, order=True)
class ResourceUri:
    """One resource. The broker is not part of the name: an agent has one, fixed by its init-data.

    The upstream form with a host (`kbs://host/...`) is refused rather than ignored: a name that seems to choose its
    broker and does not is a trap.
    """

    repository: str
    type: str
    tag: str

    def __post_init__(self) -> None:
        for segment in (self.repository, self.type, self.tag):
            if not is_segment(segment):
                raise _not_a_uri(segment)

    @classmethod
    def parse(cls, uri: str) -> ResourceUri:
        """From `kbs:///repository/type/tag`; `Permanent(INPUT)` for anything else.

        A segment is 1 to 128 of `A-Z a-z 0-9 _ - .` and does not begin with a dot.
        """
        segments = uri.removeprefix(_SCHEME).split("/")
        if not uri.startswith(_SCHEME) or len(segments) != 3:
            raise _not_a_uri(uri)
        return cls(*segments)

    @property
    def path(self) -> str:
        """Where the broker serves it: `/kbs/v0/resource/repository/type/tag`."""
        return f"{PREFIX}/resource/{self.repository}/{self.type}/{self.tag}"

    def __str__(self) -> str:
        return f"{_SCHEME}{self.repository}/{self.type}/{self.tag}"


def _not_a_uri(got: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        "this is not the name of a resource",
        expected="kbs:///repository/type/tag, each of letters, digits, _ - . and not beginning with a dot",
        got=ascii(got[:256]),
    )
