"""Where a stack lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import layout
from orchestrator.faults import Code, Permanent


def test_a_saved_layout_is_found_again(tmp_path: Path) -> None:
    planned = layout.plan("one", tmp_path)
    planned.save()
    assert layout.load("one", tmp_path) == planned


def test_two_plans_share_no_port(tmp_path: Path) -> None:
    ports = layout.plan("one", tmp_path).ports
    assert len({ports.bus, ports.registry, ports.kbs, ports.console}) == 4


def test_every_socket_fits_into_an_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 150)
    where = layout.plan("n" * 60, deep)
    for path in (where.containerd, where.snapshotter, where.cpu, where.cpu_control, where.supervisor):
        assert len(str(path).encode()) <= layout.LONGEST_SOCKET_PATH


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "n" * 90])
def test_a_name_that_is_no_short_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Permanent) as refused:
        layout.plan(name, tmp_path)
    assert refused.value.code is Code.INPUT


def test_a_stack_that_was_never_made_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as refused:
        layout.load("none", tmp_path)
    assert refused.value.code is Code.NOT_FOUND
