"""What fails because containerd took its part away is tried again, so that who asked for that is heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.faults import Code, Permanent, Temporary
from workers.host.taken_away import told_as_taken_away

REFUSED = Permanent(Code.RUNTIME, "runc refused")


def test_a_failure_while_a_path_is_gone_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(Temporary) as told, told_as_taken_away(str(tmp_path), str(tmp_path / "netns")):
        raise REFUSED
    assert told.value.code is Code.RUNTIME
    assert told.value.diagnosis.expected == str(tmp_path / "netns")


def test_a_failure_while_all_is_there_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(Permanent), told_as_taken_away(str(tmp_path), ""):
        raise REFUSED


def test_another_failure_is_its_own_whatever_is_gone(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=Code.AGENT_INIT_DATA), told_as_taken_away(str(tmp_path / "netns")):
        raise Permanent(Code.AGENT_INIT_DATA, "another init-data")
