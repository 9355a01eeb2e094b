from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.containerd import cgroups1_pb2, cgroups2_pb2
from workers.host.shim import stats


def test_a_process_that_runs_has_used_something() -> None:
    measured = stats.metrics(os.getpid())
    kinds = {kind.DESCRIPTOR.full_name: kind for kind in (cgroups1_pb2.Metrics, cgroups2_pb2.Metrics)}
    metrics = kinds[measured.type_url].FromString(measured.value)
    assert metrics.HasField("memory")
    assert metrics.HasField("cpu")


def test_a_process_that_has_ended_cannot_be_measured() -> None:
    with pytest.raises(OSError, match="No such"):
        stats.metrics(2**22 + 1)


def test_files_of_cgroup_v2_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    files = {
        "memory.stat": "anon 4096\nfile 8192\ninactive_file 100\npgfault 7\npgmajfault 1\n",
        "cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n",
        "memory.current": "16384\n",
        "memory.max": "max\n",
        "pids.current": "3\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    metrics = stats._v2(tmp_path)
    assert (metrics.memory.usage, metrics.memory.usage_limit, metrics.memory.anon) == (16384, 0, 4096)
    assert (metrics.cpu.usage_usec, metrics.pids.current, metrics.pids.limit) == (1500, 3, 0)


def test_every_controller_has_its_path() -> None:
    text = "5:cpu,cpuacct:/k8s.io/a\n4:memory:/k8s.io/b\n1:name=systemd:/x\n0::/unified\n"
    groups = stats._groups(text)
    assert groups == {
        "cpu": "/k8s.io/a",
        "cpuacct": "/k8s.io/a",
        "memory": "/k8s.io/b",
        "name=systemd": "/x",
        "": "/unified",
    }
