"""A user's name to numbers, by the image's own /etc/passwd and /etc/group.

The host cannot do this for an encrypted image, and must not be asked to: whoever writes the passwd decides who is root.
The boot init reads both files from the sealed root. Rules as in github.com/moby/sys/user, GetExecUser, which container
engines share: a number needs no entry; a user without a group gets that of its entry, else 0; supplementary groups are
those that list the user, and none where a group was named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from orchestrator.faults import Code, Permanent

LONGEST_FILE: Final = 1024 * 1024
"""Bytes of passwd or group that are worth reading."""

_NUMBER: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_MOST_ID: Final = (1 << 32) - 2


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process is, in numbers. `home` is empty where the image has no entry for the user."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...]
    home: str


@dataclass(frozen=True, slots=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of one image. Lines that are none are passed over, as every libc does."""

    users: tuple[_User, ...]
    groups: tuple[_Group, ...]

    @classmethod
    def parse(cls, passwd: bytes, group: bytes) -> Accounts:
        """Read both files; pass b"" for one that the image does not have."""
        users = [
            _User(fields[0], int(fields[2]), int(fields[3]), fields[5])
            for fields in _lines(passwd, 7)
            if _is_id(fields[2]) and _is_id(fields[3])
        ]
        groups = [
            _Group(fields[0], int(fields[2]), tuple(m for m in fields[3].split(",") if m))
            for fields in _lines(group, 4)
            if _is_id(fields[2])
        ]
        return cls(tuple(users), tuple(groups))

    def resolve(self, user: str, additional_gids: tuple[int, ...] = ()) -> Identity:
        """The numbers of `name-or-uid[:group-or-gid]`, and of groups that the policy adds.

        Raises:
            Permanent: BOOT_PROCESS, when the image has no such user or group.
        """
        who, _, group = user.partition(":")
        entry = next((u for u in self.users if u.name == who), None)
        if entry is None and _is_id(who):
            entry = next((u for u in self.users if u.uid == int(who)), None) or _User("", int(who), 0, "")
        if entry is None:
            raise _unknown("user", who, "/etc/passwd")
        gid = self._gid(group) if group else entry.gid
        member_of = {g.gid for g in self.groups if entry.name and entry.name in g.members and not group}
        return Identity(entry.uid, gid, tuple(sorted(member_of.union(additional_gids))), entry.home)

    def _gid(self, group: str) -> int:
        found = next((g.gid for g in self.groups if g.name == group), None)
        if found is None and _is_id(group):
            return int(group)
        if found is None:
            raise _unknown("group", group, "/etc/group")
        return found


def _lines(raw: bytes, fields: int) -> list[list[str]]:
    lines = [line.split(":") for line in raw[:LONGEST_FILE].decode("utf-8", errors="replace").splitlines()]
    return [line for line in lines if len(line) >= fields and not line[0].startswith("#")]


def _is_id(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and int(text) <= _MOST_ID


def _unknown(kind: str, name: str, file: str) -> Permanent:
    return Permanent(
        Code.BOOT_PROCESS,
        f"the image has no {kind} {name!r}",
        expected=f"an entry in the image's {file}",
        got="none",
        advice="name a number, or an account that the image has",
    )
