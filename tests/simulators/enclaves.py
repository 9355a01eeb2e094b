"""Real enclaves of the simulated CPU for tests: the daemon as a process, containers made by runc."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.sgx import CONFIG_ID_BYTES, Report, TargetInfo
from tests.simulators.enclave_bundle import ROOT
from workers.host.libos.sim.backend import SimulatedLibOS
from workers.host.libos.sim.pki import SimulatedPki

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.host.libos.backend import MountedBundle

NO_CONFIG = bytes(CONFIG_ID_BYTES)


class CpuProcess:
    """`python -m workers.host.libos.sim`, as a node runs it."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.socket = directory / "sgx.sock"
        self.control = directory / "control.sock"
        self.log = directory / "cpu.log"
        self.libos = SimulatedLibOS(self.control, self.socket)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def argv(self) -> list[str]:
        places = ["--state", self.state, "--socket", self.socket, "--control", self.control]
        return [sys.executable, "-m", "workers.host.libos.sim", *map(str, places)]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.argv, cwd=ROOT, stderr=log)
        until(lambda: self.control.exists() or self._process.poll() is not None, "the simulated CPU listens")
        assert self._process.poll() is None, self.log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(20)
        if number == signal.SIGKILL:
            self.control.unlink()
        return code

    def pki(self) -> SimulatedPki:
        return SimulatedPki.load(self.state / "pki")


@dataclass
class Container:
    """One container made by runc, not yet started. What it may differ in, differs by argument."""

    cpu: CpuProcess
    bundle: MountedBundle
    directory: Path
    argv: list[str] | None = None
    env: dict[str, str] | None = None
    root: Path | None = None
    binds: dict[str, Path] = field(default_factory=dict)
    namespaces: tuple[str, ...] = ("pid", "mount", "ipc", "uts")
    pid: int = 0

    def create(self) -> None:
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        self._runc_root = self.directory / "runc"
        place = self.directory / self.name
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps(self._spec()))
        pid_file = place / "pid"
        create = [*self._runc("create"), "--bundle", str(place), "--pid-file", str(pid_file), self.name]
        # The container inherits the pipes of `runc create`, which ends at once.
        self._io = subprocess.Popen(create, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._io.wait(30) == 0
        self.pid = int(pid_file.read_text())

    def enter(self, config_id: bytes = NO_CONFIG, *, debug: bool = False) -> None:
        asyncio.run(self.cpu.libos.enter(self.pid, self.bundle, config_id, debug=debug))

    def start(self) -> None:
        subprocess.run([*self._runc("start"), self.name], check=True)

    def ask(self, do: str, **members: object) -> dict:
        assert self._io.stdin is not None
        assert self._io.stdout is not None
        self._io.stdin.write(json.dumps({"do": do, **members}) + "\n")
        self._io.stdin.flush()
        return json.loads(self._io.stdout.readline())

    def exec(self, line: str) -> dict:
        """What `runc exec` of the same program gets."""
        argv = [*self._runc("exec"), self.name, *self.bundle.entry.argv]
        run = subprocess.run(argv, input=line + "\n", capture_output=True, text=True, check=True)
        return json.loads(run.stdout)

    def remove(self) -> None:
        subprocess.run([*self._runc("delete"), "--force", self.name], check=False, capture_output=True)
        for stream in (self._io.stdin, self._io.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def target(self) -> TargetInfo:
        return TargetInfo.parse(bytes.fromhex(self.ask("target")["target"]))

    def report(self, target: TargetInfo, data: bytes = b"") -> Report:
        return Report.parse(bytes.fromhex(self.ask("report", target=target.encode().hex(), data=data.hex())["report"]))

    def quote(self, data: bytes = b"") -> bytes:
        return bytes.fromhex(self.ask("quote", data=data.hex())["quote"])

    def _runc(self, verb: str) -> list[str]:
        return ["runc", "--root", str(self._runc_root), verb]

    def _spec(self) -> dict:
        entry = self.bundle.entry
        env = dict(entry.env) if self.env is None else self.env
        capabilities = ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": list(entry.argv) if self.argv is None else self.argv,
                "env": [f"{name}={value}" for name, value in env.items()],
                "cwd": entry.cwd,
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            },
            "root": {"path": str(self.root or self.bundle.path), "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                *({"destination": at, "type": "tmpfs", "source": "tmpfs"} for at in ("/dev", "/run", "/tmp")),
                *self._extra_binds(),
            ],
            "linux": {"namespaces": [{"type": kind} for kind in self.namespaces], "cgroupsPath": f"/{self.name}"},
        }

    def _extra_binds(self) -> Iterator[dict]:
        for bind in self.cpu.libos.container_extras().binds:
            yield {
                "destination": bind.destination,
                "type": "bind",
                "source": str(bind.source),
                "options": list(bind.options),
            }
        for at, source in self.binds.items():
            yield {"destination": at, "type": "bind", "source": str(source), "options": ["rbind"]}


def until(condition, what: str, seconds: float = 20) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def mounts_below(path: Path) -> list[str]:
    """Mount points at or below `path`, in this process's own view."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [point for line in lines if (point := line.split()[4]).startswith(str(path))]


def is_root() -> bool:
    return os.geteuid() == 0
