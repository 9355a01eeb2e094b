"""What a process's cgroup has used, as containerd's metrics message; cgroup v1 and v2.

Peer: containerd/cgroups stats; the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst. A counter that the
kernel does not offer is zero: a kubelet reads use, not health, from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from schemas.containerd import cgroups1_pb2, cgroups2_pb2

_ROOT: Final = Path("/sys/fs/cgroup")
_TICK_NS: Final = 10_000_000
"""A `user_hz` tick of cpuacct.stat: 1/100 s on every Linux that containerd runs on."""


def metrics(pid: int) -> Any:
    """The use of the cgroup that `pid` is in, wrapped for the wire. Raises OSError when it has ended."""
    groups = _groups(Path(f"/proc/{pid}/cgroup").read_text())
    unified = groups.get("")
    measured: Message = _v1(groups) if unified is None or "memory" in groups else _v2(_ROOT / unified.lstrip("/"))
    return Any(type_url=measured.DESCRIPTOR.full_name, value=measured.SerializeToString())


def _groups(text: str) -> dict[str, str]:
    """`/proc/PID/cgroup`: controller to path; the empty controller is the unified hierarchy."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _v1(groups: Mapping[str, str]) -> cgroups1_pb2.Metrics:
    def group(controller: str) -> Path:
        return _ROOT / controller / groups.get(controller, "/").lstrip("/")

    memory, cpu, pids = group("memory"), group("cpuacct"), group("pids")
    stat, ticks = _table(memory / "memory.stat"), _table(cpu / "cpuacct.stat")
    return cgroups1_pb2.Metrics(
        pids=cgroups1_pb2.PidsStat(current=_number(pids / "pids.current"), limit=_number(pids / "pids.max")),
        cpu=cgroups1_pb2.CPUStat(
            usage=cgroups1_pb2.CPUUsage(
                total=_number(cpu / "cpuacct.usage"),
                kernel=ticks.get("system", 0) * _TICK_NS,
                user=ticks.get("user", 0) * _TICK_NS,
            )
        ),
        memory=cgroups1_pb2.MemoryStat(
            rss=stat.get("rss", 0),
            hierarchical_memory_limit=stat.get("hierarchical_memory_limit", 0),
            total_rss=stat.get("total_rss", 0),
            total_pg_fault=stat.get("total_pgfault", 0),
            total_pg_maj_fault=stat.get("total_pgmajfault", 0),
            total_inactive_file=stat.get("total_inactive_file", 0),
            usage=cgroups1_pb2.MemoryEntry(
                limit=_number(memory / "memory.limit_in_bytes"),
                usage=_number(memory / "memory.usage_in_bytes"),
                max=_number(memory / "memory.max_usage_in_bytes"),
                failcnt=_number(memory / "memory.failcnt"),
            ),
        ),
    )


def _v2(group: Path) -> cgroups2_pb2.Metrics:
    stat, cpu = _table(group / "memory.stat"), _table(group / "cpu.stat")
    return cgroups2_pb2.Metrics(
        pids=cgroups2_pb2.PidsStat(current=_number(group / "pids.current"), limit=_number(group / "pids.max")),
        cpu=cgroups2_pb2.CPUStat(
            usage_usec=cpu.get("usage_usec", 0),
            user_usec=cpu.get("user_usec", 0),
            system_usec=cpu.get("system_usec", 0),
        ),
        memory=cgroups2_pb2.MemoryStat(
            anon=stat.get("anon", 0),
            file=stat.get("file", 0),
            inactive_file=stat.get("inactive_file", 0),
            pgfault=stat.get("pgfault", 0),
            pgmajfault=stat.get("pgmajfault", 0),
            usage=_number(group / "memory.current"),
            usage_limit=_number(group / "memory.max"),
        ),
    )


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _number(path: Path) -> int:
    """The file's number; 0 for `max` (no limit) and for a file that is not there."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
