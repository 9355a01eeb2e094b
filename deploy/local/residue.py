"""What a stack has on this machine outside its processes' memory: found by name, removed, and looked for again.

Zone: host. May import: `deploy.local.{containerd,layout,programs}`, the standard library.

Several stacks and other container engines may share the machine, so nothing is inferred from "what is new":

- a process belongs to the stack if its environment carries the stack's mark, or its command line, its working folder
  or its root lies in the stack's folders, or one of the stack's cgroups holds it;
- a mount belongs to it if its target or its source lies in the folders (this includes pods' network namespaces);
- a loop device, if its image file does; a cgroup, if it bears the id of a container that the stack's folders know;
- a network device, if the pods' subnet is routed to it; what the network's plugins noted of a pod, if it names the pod.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.containerd import network
from deploy.local.layout import Layout
from deploy.local.programs import MARK

CGROUPS: Final = Path("/sys/fs/cgroup")
GO_SHIM_SOCKETS: Final = Path("/run/containerd/s")
NETWORK_NOTES: Final = Path("/var/lib/cni/results")
"""Where containerd's libcni notes what it did for a pod until it undoes it; no configuration of containerd moves it."""
KILL_WITHIN: Final = 10.0
_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Residue:
    """One stack's traces. `ids` are its containers' ids, taken before its folders are removed."""

    layout: Layout
    ids: frozenset[str]

    def processes(self) -> dict[int, str]:
        """Its processes but this one: pid and command line."""
        ours = {pid for cgroup in self.cgroups() for pid in _members(cgroup)}
        return {
            pid: _command_line(pid) or "?"
            for pid in _pids()
            if pid != os.getpid() and (pid in ours or self._owns(pid)) and not _is_zombie(pid)
        }

    def mounts(self) -> list[str]:
        """Its mounts in this namespace, the innermost first."""
        found = []
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _, rest = line.partition(" - ")
            target, source = _unescape(fields.split()[4]), _unescape(rest.split()[1])
            if self._inside(target) or self._inside(source):
                found.append(target)
        return found[::-1]

    def loop_devices(self) -> list[str]:
        """Devices whose image file is the stack's."""
        found = []
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                if self._inside(backing.read_text().strip().removesuffix(" (deleted)")):
                    found.append(f"/dev/{backing.parts[3]}")
        return found

    def cgroups(self) -> list[Path]:
        """Its containers' cgroups in every hierarchy, the innermost first."""
        found = [Path(top) / name for top, names, _ in os.walk(CGROUPS) for name in names if self._names(name)]
        return found[::-1]

    def devices(self) -> list[str]:
        """Network devices that lead to its pods."""
        shown = subprocess.run(
            ["ip", "-json", "route", "show", "root", self.layout.subnet], capture_output=True, check=False, timeout=10
        )
        routes = json.loads(shown.stdout or b"[]")
        return sorted({str(route["dev"]) for route in routes if route.get("dst") != "default" and "dev" in route})

    def folders(self) -> list[str]:
        """Its two folders."""
        return [str(path) for path in (self.layout.root, self.layout.run) if path.exists()]

    def left_behind(self) -> list[str]:
        """Everything that is still there, a line each; empty when the stack is gone."""
        return [
            *(f"process {pid}: {command[:200]}" for pid, command in self.processes().items()),
            *(f"mount {target}" for target in self.mounts()),
            *(f"loop device {device}" for device in self.loop_devices()),
            *(f"cgroup {cgroup}" for cgroup in self.cgroups()),
            *(f"network device {device}" for device in self.devices()),
            *(f"folder {folder}" for folder in self.folders()),
            *(f"socket {socket}" for socket in self._shim_sockets()),
            *(f"file {path}" for path in self._network_notes()),
        ]

    def remove(self, *, keep_data: bool = False) -> None:
        """Remove all of it, in the order in which one holds the other. What resists is for `left_behind` to tell."""
        parents = {cgroup.parent for cgroup in self.cgroups()}
        self._delete_containers()
        self._kill()
        for device in self.devices():
            _quietly("ip", "link", "delete", device)
        for target in self.mounts():
            if _quietly("umount", target):
                _quietly("umount", "--lazy", target)
        for device in self.loop_devices():
            _quietly("losetup", "--detach", device)
        for cgroup in (*self.cgroups(), *parents):
            with contextlib.suppress(OSError):
                cgroup.rmdir()  # refused while it has processes or children: then it is others' too
        for path in (*self._shim_sockets(), *self._network_notes()):
            path.unlink(missing_ok=True)
        if not self.mounts():  # never delete through a mount that is still there
            shutil.rmtree(self.layout.run, ignore_errors=True)
            if not keep_data:
                shutil.rmtree(self.layout.root, ignore_errors=True)

    def _delete_containers(self) -> None:
        """Ask runc first: it knows what it made."""
        for folder in _walk(self.layout.run):
            if not (folder / "state.json").is_file():
                continue
            _quietly("runc", "--root", str(folder.parent), "delete", "--force", folder.name)

    def _kill(self) -> None:
        ends = time.monotonic() + KILL_WITHIN
        while (alive := self.processes()) and time.monotonic() < ends:
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def _owns(self, pid: int) -> bool:
        if _is_marked(pid, self.layout):
            return True
        with contextlib.suppress(OSError):
            words = re.split(r"[\0=:,]", Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"))
            links = (str(Path(f"/proc/{pid}/{link}").readlink()) for link in ("cwd", "root", "exe"))
            return any(self._inside(word) for word in (*words, *links))
        return False

    def _inside(self, path: str) -> bool:
        own = (str(self.layout.root), str(self.layout.run))
        return path in own or path.startswith(tuple(f"{folder}/" for folder in own))

    def _names(self, name: str) -> bool:
        return any(identity in self.ids for identity in _CONTAINER_ID.findall(name))

    def _network_notes(self) -> list[Path]:
        return [path for path in NETWORK_NOTES.glob("*") if self._names(path.name)]

    def _shim_sockets(self) -> Iterator[Path]:
        """containerd 1.6, runtime/v2/shim SocketAddress: SHA-256 of `address/namespace/id`."""
        for identity in self.ids:
            name = hashlib.sha256(f"{self.layout.containerd}/k8s.io/{identity}".encode()).hexdigest()
            if (GO_SHIM_SOCKETS / name).exists():
                yield GO_SHIM_SOCKETS / name


def of(layout: Layout) -> Residue:
    """The traces of a stack; call while its folders are there, for they know its containers."""
    known = {identity for folder in _walk(layout.run) for identity in _CONTAINER_ID.findall(folder.name)}
    # A pod's own network is named by its stack, the loopback of every pod alike.
    noted = re.compile(rf"{re.escape(network(layout))}-([0-9a-f]{{64}})-.*")
    known |= {match[1] for path in NETWORK_NOTES.glob("*") if (match := noted.fullmatch(path.name))}
    return Residue(layout, frozenset(known))


def end(layout: Layout, commands: Collection[tuple[str, ...]]) -> None:
    """Kill the stack's processes that run exactly one of these commands, and wait until they are gone.

    Both are asked for: a container's process bears the stack's mark too, and another stack runs the same commands.
    """
    wanted = {"".join(f"{word}\0" for word in command).encode() for command in commands}
    ends = time.monotonic() + KILL_WITHIN
    while time.monotonic() < ends:
        found = [
            pid
            for pid in _pids()
            if _raw_command_line(pid) in wanted and _is_marked(pid, layout) and not _is_zombie(pid)
        ]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _walk(top: Path) -> Iterator[Path]:
    """Every folder of a run folder, but not what containers see as their root."""
    for folder, names, _ in os.walk(top):
        names[:] = [name for name in names if name != "rootfs" and not (Path(folder) / name).is_mount()]
        yield Path(folder)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _members(cgroup: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(line) for line in (cgroup / "cgroup.procs").read_text().split()]
    return []


def _raw_command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _command_line(pid: int) -> str:
    return _raw_command_line(pid).replace(b"\0", b" ").decode(errors="replace").strip()


def _is_marked(pid: int, layout: Layout) -> bool:
    with contextlib.suppress(OSError):
        return f"{MARK}={layout.run}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def _is_zombie(pid: int) -> bool:
    """Dead and not yet collected by its parent: nothing of it is left but its number."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def _unescape(field: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _quietly(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode
