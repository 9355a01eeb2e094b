"""A user's name to numbers, as container engines do it, by the image's own files."""

from __future__ import annotations

import pytest

from orchestrator.faults import Code, Permanent
from workers.enclave.launch_policy.accounts import Accounts

ACCOUNTS = Accounts.parse(
    b"root:x:0:0:root:/root:/bin/sh\nredis:x:999:1000:Redis:/data:/bin/sh\n# comment\nbroken line\nbad:x:-1:0::/:/\n",
    b"root:x:0:\nredis:x:1000:\ndisk:x:6:redis,root\ntape:x:26:redis\n",
)


@pytest.mark.parametrize(
    ("user", "uid", "gid", "more", "home"),
    [
        ("root", 0, 0, (6,), "/root"),
        ("0", 0, 0, (6,), "/root"),
        ("redis", 999, 1000, (6, 26), "/data"),
        ("999", 999, 1000, (6, 26), "/data"),
        ("redis:disk", 999, 6, (), "/data"),
        ("redis:77", 999, 77, (), "/data"),
        ("1234", 1234, 0, (), ""),
        ("1234:tape", 1234, 26, (), ""),
    ],
)
def test_a_user_is_resolved(user, uid, gid, more, home) -> None:
    found = ACCOUNTS.resolve(user)
    assert (found.uid, found.gid, found.additional_gids, found.home) == (uid, gid, more, home)


def test_groups_of_the_policy_are_added() -> None:
    assert ACCOUNTS.resolve("redis", (2000, 6)).additional_gids == (6, 26, 2000)


@pytest.mark.parametrize("user", ["nobody", "redis:nobody", "bad", "99999999999", ""])
def test_an_account_that_the_image_lacks_is_a_boot_fault(user) -> None:
    with pytest.raises(Permanent) as refused:
        ACCOUNTS.resolve(user)
    assert refused.value.code is Code.BOOT_PROCESS


def test_an_image_without_files_has_numbers_only() -> None:
    assert Accounts.parse(b"", b"").resolve("5:6").gid == 6
