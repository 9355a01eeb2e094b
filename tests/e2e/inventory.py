"""What a stack holds at one moment, counted: to be compared with what it holds at another."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local import residue
from orchestrator.bus import connect, subjects
from tests.e2e.cluster import Cluster
from workers.host.libos.sim.backend import SimulatedLibOS

KIB: Final = 1024
CONTAINER_FOLDERS: Final = ("runc", "held", "exits", "pods")


@dataclass(frozen=True, slots=True)
class Inventory:
    """`things` that launches make, by kind; `descriptors` open in each process of the stack, by its name."""

    things: dict[str, int]
    descriptors: dict[str, int]

    def more_than(self, other: Inventory) -> list[str]:
        """A line for each kind of thing whose number differs, and for each process that has more descriptors open.

        Fewer are no leak: a server closes what it has not used for a while.
        """
        things = [
            f"{kind}: {other.things.get(kind)}, then {count}"
            for kind, count in self.things.items()
            if count != other.things.get(kind)
        ]
        descriptors = [
            f"descriptors of {name}: {other.descriptors.get(name)}, then {count}"
            for name, count in self.descriptors.items()
            if count > other.descriptors.get(name, 0)
        ]
        return things + descriptors


def taken(cluster: Cluster) -> Inventory:
    """Of now, with containerd's garbage collected."""
    cluster.collect_garbage()
    layout = cluster.layout
    traces = residue.of(layout)
    things = {
        "processes": len(traces.processes()),
        "mounts": len(traces.mounts()),
        "cgroups": len(traces.cgroups()),
        "loop devices": len(traces.loop_devices()),
        "network devices": len(traces.devices()),
        "network namespaces": _entries(layout.run / "containerd", "*.cri/netns/*"),
        "pod addresses": _entries(layout.root / "containerd/addresses", "*/*"),
        "files of containers": sum(_below(layout.run / folder) for folder in CONTAINER_FOLDERS),
        "sealed stores": _below(layout.root / "state/stores"),
        "snapshots": _below(layout.root / "snapshots"),
        "enclaves": len(asyncio.run(SimulatedLibOS(layout.cpu_control, layout.cpu).status()).enclaves),
        **asyncio.run(_of_the_bus(cluster)),
    }
    return Inventory(things, {name: _entries(Path(f"/proc/{pid}/fd"), "*") for name, pid in _pids(cluster).items()})


def memory(cluster: Cluster) -> dict[str, int]:
    """Bytes of each process's own memory, by its name: anonymous pages, in which a leak would be.

    Not the proportional set size: that grows when another process that maps the same files ends. Of containerd, what
    its heap holds after a collection: left alone it doubles first.
    """
    found = {}
    for name, pid in _pids(cluster).items():
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found[name] = int(next(line for line in rollup if line.startswith("Anonymous:")).split()[1]) * KIB
    found["containerd"] = _live_heap(cluster.layout.containerd_debug)
    return found


def _live_heap(debug: Path) -> int:
    """Bytes that a Go program cannot give back, told on its debugging socket (net/http/pprof and runtime.MemStats)."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(debug))
        connection.sendall(b"GET /debug/pprof/heap?gc=1&debug=1 HTTP/1.0\r\n\r\n")
        told = connection.makefile("rb").read().decode()
    return int(told.partition("# HeapAlloc = ")[2].split()[0])


def _pids(cluster: Cluster) -> dict[str, int]:
    supervised = {state.name: state.pid for state in cluster.stack.supervisor.states()}
    return {"supervisord": int((cluster.layout.run / "supervisord.pid").read_text()), **supervised}


async def _of_the_bus(cluster: Cluster) -> dict[str, int]:
    async with await connect(cluster.stack.credentials("reader"), "inventory") as bus:
        commands = (await bus.stream.stream_info(subjects.COMMANDS)).state
        events = (await bus.stream.stream_info(subjects.EVENTS)).state
    return {
        "commands": commands.messages,
        "consumers of commands": commands.consumer_count,
        "consumers of histories": events.consumer_count,
    }


def _below(folder: Path) -> int:
    """Files and folders at any depth; what goes away meanwhile is not counted."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


def _entries(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern))
