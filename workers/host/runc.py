"""Containers by runc, each held by a conmon.

Zone: host. May import: `workers.host.conmon`, `orchestrator.faults`, the standard library.

conmon is the parent of a container's first process: it keeps its standard streams and writes its exit status to a file.
So every process of ours may die and be started again without losing an exit (docs/adr/0004).

    <run_dir>/runc/              runc's state
    <run_dir>/exits/<id>         exit status, written by conmon when the container has ended
    <run_dir>/held/<id>.json     which pod, container and role the id belongs to; written before the container is made
    <run_dir>/held/<id>.conmon   its conmon's pid: a container that is not there yet may be about to come
    <run_dir>/held/<id>.d/oom    made by conmon when the kernel killed something of it for its memory limit
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Permanent, Temporary
from workers.host import conmon
from workers.host.conmon import Streams

PATIENCE: Final = 20.0


class Role(StrEnum):
    """What a container is for."""

    PAUSE = "pause"
    AGENT = "agent"
    APP = "app"


@dataclass(frozen=True, slots=True)
class Held:
    """A container of ours: runc's id and what it belongs to. `attempt` is of the transition that made it."""

    id: str
    pod: str
    container: str
    role: Role
    attempt: int


class Runc:
    """Create, start, look at, signal and delete containers. All state is on disk: any instance can take over.

    `patience`: seconds that a creation, or one answer of runc, may take. Every method that asks runc raises
    Temporary(RUNTIME) when that is over, and Permanent(RUNTIME) when runc cannot be run.
    """

    def __init__(self, binary: str, run_dir: Path, patience: float = PATIENCE) -> None:
        self._binary = binary
        self._patience = patience
        self._root = run_dir / "runc"
        self._exits = run_dir / "exits"
        self._held = run_dir / "held"
        for directory in (self._root, self._exits, self._held):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def create(self, held: Held, bundle: Path, streams: Streams) -> int:
        """Make the container up to, not including, its first instruction; returns its first process's pid.

        Raises Permanent(RUNTIME) with runc's own words, and nothing is left of it; Temporary(RUNTIME) when that takes
        too long. Then, and after a cancellation, it may still come: `discard` it.
        """
        log = bundle / "runc.log"
        log.unlink(missing_ok=True)
        (self._held / f"{held.id}.json").write_text(json.dumps(asdict(held)))
        self._working(held.id).mkdir(mode=0o700, exist_ok=True)
        arguments = [
            "--cid", held.id, "--cuuid", held.id, "--name", held.id,
            "--runtime", self._binary, "--runtime-arg", f"--root={self._root}", "--runtime-arg", f"--log={log}",
            "--bundle", str(bundle), "--container-pidfile", str(bundle / "pid"),
            "--conmon-pidfile", str(self._conmon_file(held.id)),
            "--log-path", "passthrough", "--exit-dir", str(self._exits), "--log-level", "error",
        ]  # fmt: skip
        try:
            async with asyncio.timeout(self._patience):
                report = await conmon.hold(arguments, streams, self._working(held.id))
        except TimeoutError as error:
            raise self._still_being_made(held.id) from error
        except OSError as error:
            report = conmon.Report(0, str(error))
        if not report.pid:
            said = log.read_text(errors="replace").strip() if log.exists() else ""
            await self.discard(held.id)
            raise Permanent(
                Code.RUNTIME,
                f"runc could not create {held.role} container {held.id}",
                expected="a created container",
                got=(said or report.message)[:2000],
                advice="the text above is runc's or the system's own; see the bundle's config.json",
            )
        return report.pid

    async def start(self, id_: str) -> None:
        """Let the created container run. Raises Permanent(RUNTIME)."""
        await self._do("start", id_)

    async def state(self, id_: str) -> tuple[str, int]:
        """`(status, pid)`, status as runc says it: created, running, stopped; ("absent", 0) when there is none.

        Raises Permanent(RUNTIME) when runc cannot say: what may still run must not be taken for gone.
        """
        code, text = await self._run("state", id_)
        if code != 0 and "does not exist" in text:
            return "absent", 0
        if code != 0:
            raise _runc_failed("read the state of", id_, text)
        document = json.loads(text)
        return str(document["status"]), int(document["pid"])

    async def known(self, id_: str) -> tuple[str, int]:
        """As `state`, without asking runc (15 ms) where the files tell.

        What has left no trace is absent. What conmon has told the exit of has stopped: it is told of the last thread.
        """
        if not self.traces(id_):
            return "absent", 0
        if self.exit_of(id_) is not None and self._directory(id_).exists():
            return "stopped", 0
        return await self.state(id_)

    async def kill(self, id_: str, number: int, *, everything: bool = False) -> None:
        """Send a signal to the first process (or all). Raises Permanent(NOT_FOUND) when nothing runs."""
        arguments = ["kill", *(["--all"] if everything else []), id_, str(number)]
        code, text = await self._run(*arguments)
        if code != 0:
            gone = any(words in text for words in ("not running", "already finished", "does not exist"))
            raise Permanent(
                Code.NOT_FOUND if gone else Code.RUNTIME,
                f"signal {number} could not be sent to {id_}",
                expected="a running container",
                got=text[:500],
                advice="the container has ended" if gone else "the text above is runc's own",
            )

    async def pause(self, id_: str) -> None:
        """Freeze its cgroup. Raises Permanent(RUNTIME)."""
        await self._do("pause", id_)

    async def resume(self, id_: str) -> None:
        """Let a frozen one go on. Raises Permanent(RUNTIME)."""
        await self._do("resume", id_)

    async def update(self, id_: str, resources: bytes) -> None:
        """Give its cgroup other limits: `linux.resources` in JSON. Raises Permanent(RUNTIME)."""
        await self._do("update", "--resources", "-", id_, given=resources)

    async def delete(self, id_: str) -> bool:
        """Kill and remove the container, whatever its state; wait until its conmon has told the exit. True if it was.

        Raises Temporary(RUNTIME) when something of it is still there afterwards, or still to come.
        """
        status, pid = await self._settled(id_)
        was = status != "absent"
        if status == "paused":
            await self._run("kill", id_, "KILL")  # which thaws it: frozen processes do not die
        if was or self._directory(id_).exists():  # a `runc create` that was killed leaves one that runc does not know
            with _pinned(pid) as process:
                # First the end of every thread, then runc: it takes a process for ended when its first thread is, and
                # leaves the cgroup that the others are still in.
                held = await self._still_held(process, id_)
            await self._run("delete", "--force", id_)
            if held or self._directory(id_).exists():
                raise Temporary(
                    Code.RUNTIME,
                    f"container {id_} could not be removed",
                    expected="nothing left of it",
                    got="its conmon lives" if held else "runc still knows it",
                    advice="look for processes that do not die (state D) in it",
                )
        return was

    async def discard(self, id_: str) -> bool:
        """Remove a container that nobody is to hear of: a half-made one, or an attempt's that is made again."""
        # The record first: without it the exit that follows is nobody's.
        self._files(id_)[0].unlink(missing_ok=True)
        was = await self.delete(id_)
        self.forget(id_)
        return was

    def forget(self, id_: str) -> None:
        """Remove our record and the exit status of a container that is gone and whose exit was told."""
        for path in self._files(id_):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._working(id_), ignore_errors=True)

    def traces(self, id_: str) -> bool:
        """Whether anything of that id is left or being made: without any, it can be made at once."""
        return any(path.exists() for path in (*self._files(id_), self._directory(id_)))

    def held(self) -> list[Held]:
        """Every container of ours, alive or ended and not yet forgotten."""
        found = (self.record(path.stem) for path in sorted(self._held.glob("*.json")))
        return [held for held in found if held is not None]

    def record(self, id_: str) -> Held | None:
        """Our record of one container."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            document = json.loads((self._held / f"{id_}.json").read_text())
            return Held(**{**document, "role": Role(document["role"])})
        return None

    def ended(self) -> list[str]:
        """The ids of containers that have ended and are not yet forgotten: one look at one directory."""
        return [entry.name for entry in os.scandir(self._exits) if not entry.name.startswith(".")]

    def exit_of(self, id_: str) -> tuple[int, int] | None:
        """`(status, nanoseconds since 1970)` once the container has ended, else None."""
        path = self._exits / id_
        try:
            text = path.read_text()
            at = path.stat().st_mtime_ns
        except OSError:
            return None
        return (int(text), at) if text.strip().isdigit() else None

    def ran_out_of_memory(self, id_: str) -> bool:
        """Whether the kernel killed a process of it for its memory limit."""
        return (self._working(id_) / "oom").exists()

    async def _settled(self, id_: str) -> tuple[str, int]:
        """As `known`, of a container that nobody is making any more: the conmon of a worker that died goes on."""
        ends = time.monotonic() + self._patience
        while True:
            making = self._conmon_lives(id_)  # asked first: what it makes after we looked must not be missed
            status, pid = await self.known(id_)
            if status != "absent" or not making:
                return status, pid
            if time.monotonic() > ends:
                raise self._still_being_made(id_)
            await asyncio.sleep(0.05)

    def _still_being_made(self, id_: str) -> Temporary:
        return Temporary(
            Code.RUNTIME,
            f"container {id_} is still being made",
            expected=f"a container, or none, within {self._patience:g} s",
            got="its conmon is at it",
            advice="see what its runc waits for",
        )

    def _files(self, id_: str) -> tuple[Path, Path, Path]:
        return self._held / f"{id_}.json", self._conmon_file(id_), self._exits / id_

    def _working(self, id_: str) -> Path:
        return self._held / f"{id_}.d"

    def _directory(self, id_: str) -> Path:
        return self._root / id_

    def _conmon_file(self, id_: str) -> Path:
        return self._held / f"{id_}.conmon"

    def _conmon_lives(self, id_: str) -> bool:
        with suppress(OSError, ValueError):
            pid = int(self._conmon_file(id_).read_text())
            return f"--cid\0{id_}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        return False

    async def _still_held(self, process: int | None, id_: str) -> bool:
        """Whether conmon lives on after five seconds to tell the exit: only a process in state D ever needs them."""
        for turn in range(200):
            if not self._conmon_lives(id_):
                return False
            if process is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            await asyncio.sleep(min(0.025, 0.002 * 2**turn))
        return True

    async def _do(self, verb: str, *arguments: str, given: bytes = b"") -> None:
        code, text = await self._run(verb, *arguments, given=given)
        if code != 0:
            raise _runc_failed(verb, arguments[-1], text)

    async def _run(self, *arguments: str, given: bytes = b"") -> tuple[int, str]:
        """runc's exit status, and its output or else its words; `given` is its standard input."""
        try:
            process = await asyncio.create_subprocess_exec(
                self._binary,
                f"--root={self._root}",
                *arguments,
                stdin=asyncio.subprocess.PIPE if given else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise _runc_failed(arguments[0], arguments[-1], str(error)) from error
        try:
            async with asyncio.timeout(self._patience):
                out, err = await process.communicate(given or None)
        except TimeoutError as error:
            raise Temporary(
                Code.RUNTIME,
                f"runc {arguments[0]} did not end",
                expected=f"an answer within {self._patience:g} s",
                got="none; it was killed",
                advice="see what it waits for: a frozen cgroup, a process in state D",
            ) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, (out or err).decode(errors="replace").strip()


@contextmanager
def _pinned(pid: int) -> Iterator[int | None]:
    """A descriptor of the process, which no other can take the place of as its pid can; None when it has ended."""
    try:
        descriptor = os.pidfd_open(pid) if pid > 0 else None
    except ProcessLookupError:
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _runc_failed(verb: str, id_: str, text: str) -> Permanent:
    return Permanent(
        Code.RUNTIME,
        f"runc could not {verb} {id_}",
        expected=f"{verb} to succeed",
        got=text[:2000],
        advice="the text above is runc's or the system's own",
    )
