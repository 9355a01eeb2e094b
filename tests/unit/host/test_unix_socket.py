from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from workers.host.unix_socket import listening


@pytest.mark.parametrize("mode", [0o600, 0o666], ids=oct)
def test_a_socket_has_its_mode_from_the_first(tmp_path: Path, mode: int) -> None:
    with listening(tmp_path / "below" / "socket", backlog=1, mode=mode):
        assert stat.S_IMODE((tmp_path / "below" / "socket").stat().st_mode) == mode
        assert stat.S_IMODE((tmp_path / "below").stat().st_mode) == 0o711


def test_the_mask_of_the_process_stays(tmp_path: Path) -> None:
    listening(tmp_path / "socket", backlog=1).close()
    (tmp_path / "file").touch(0o644)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_what_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    listening(tmp_path / "socket", backlog=1).close()
    with listening(tmp_path / "socket", backlog=1), socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(tmp_path / "socket"))
