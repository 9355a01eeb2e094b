"""The process that serves a store: started, watched and stopped.

Zone: enclave. May import: `mount`, `store`, `syscalls`, `orchestrator.faults`.

A fork and not an exec: the key reaches the server in memory, never in an argument, an environment or a file. So fork
before any event loop or thread is started.
"""

from __future__ import annotations

import gc
import os
import pathlib
import select
import signal
import sys
from contextlib import suppress
from typing import NoReturn, Self

from orchestrator.faults import Code, Permanent
from workers.enclave.rootfs.mount import IMAGE_NAME, serve
from workers.enclave.rootfs.store import SealedStore, Tampering, TamperReport
from workers.enclave.rootfs.syscalls import MNT_DETACH, mount_points, unmount

_READY_SECONDS = 30.0
_STOP_SECONDS = 10.0
_READ_AHEAD_KIB = 1024


class StoreServer:
    """A running server; made by `start_server`. `reports` is a file descriptor that is readable when there is news."""

    def __init__(self, pid: int, mountpoint: pathlib.Path, reports: int) -> None:
        self.pid = pid
        self.image = mountpoint / IMAGE_NAME
        self.reports = reports
        self._mountpoint = mountpoint
        self._stopped = False
        self._unread = b""

    def tamper_reports(self) -> list[TamperReport]:
        """What the server found since the last call, each unit once. Does not wait."""
        while True:
            try:
                news = os.read(self.reports, 65536)
            except BlockingIOError:
                break
            if not news:
                break
            self._unread += news
        *lines, self._unread = self._unread.split(b"\n")
        return [_parse_report(line) for line in lines]

    def stop(self) -> None:
        """Unmounts and ends the server. Unmount what stands on its image first. May be called again."""
        if self._stopped:
            return
        self._stopped = True
        os.kill(self.pid, signal.SIGTERM)
        _reap(self.pid)
        os.close(self.reports)
        # Left behind only by a server that had to be killed.
        with suppress(OSError):
            if any(point.path == self._mountpoint.absolute() for point in mount_points()):
                unmount(self._mountpoint, MNT_DETACH)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_server(store: SealedStore, mountpoint: pathlib.Path) -> StoreServer:
    """Serves `store` at `mountpoint`, an existing directory, from a child process; returns once the mount stands.

    The store belongs to the child from here on; close it in this process. Its `on_tamper` is replaced by a report to
    `StoreServer.tamper_reports`. Raises `Permanent` (BOOT_STORE).
    """
    ready, tell_ready = os.pipe()
    reports, tell_reports = os.pipe()
    # A child holds a copy of whatever is buffered; it must not be written twice.
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _run(store, mountpoint, tell_ready, tell_reports)
    os.close(tell_ready)
    os.close(tell_reports)
    os.set_blocking(reports, False)
    server = StoreServer(pid, mountpoint, reports)
    try:
        readable, _, _ = select.select([ready], [], [], _READY_SECONDS)
        mounted = bool(readable) and os.read(ready, 1) == b"\1"
    finally:
        os.close(ready)
    if not mounted:
        server.stop()
        raise Permanent(
            Code.BOOT_STORE,
            "the sealed root filesystem could not be served through FUSE",
            expected=f"a mount at {mountpoint}",
            got="the server ended" if readable else f"nothing within {_READY_SECONDS:.0f} s",
            advice="the container needs /dev/fuse (10:229) and CAP_SYS_ADMIN; the server's error is on its stderr",
        )
    _read_more_ahead(mountpoint)
    return server


def _run(store: SealedStore, mountpoint: pathlib.Path, tell_ready: int, tell_reports: int) -> NoReturn:
    """The child. It never returns into the parent's code, whatever happens."""
    status = 1
    # What the parent left uncollected would close, when it is collected here, numbers that are this process's by then.
    gc.freeze()
    try:
        _close_all_but(store.fileno(), tell_ready, tell_reports)
        os.set_blocking(tell_reports, False)
        told: set[TamperReport] = set()

        def report(finding: TamperReport) -> None:
            if finding not in told:
                told.add(finding)
                # A full pipe means thousands of findings unread: one more would say nothing new.
                with suppress(BlockingIOError, BrokenPipeError):
                    os.write(tell_reports, f"{finding.kind.name} {finding.unit}\n".encode())

        store.on_tamper = report
        serve(store, mountpoint, tell_ready)
        status = 0
    except BaseException as error:  # noqa: BLE001 - a forked child that returned would be a second parent
        # As this process tells what it did not foresee: boot init has seen to it that nothing is quoted.
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stderr.flush()
        os._exit(status)


def _close_all_but(*kept: int) -> None:
    """What the parent has open, its channel to the agent above all, never ends for the peer while a child holds it."""
    previous = 2
    for descriptor in sorted(kept):
        os.closerange(previous + 1, descriptor)
        previous = descriptor
    os.closerange(previous + 1, os.sysconf("SC_OPEN_MAX"))


def _parse_report(line: bytes) -> TamperReport:
    kind, unit = line.decode().split(" ")
    return TamperReport(Tampering[kind], int(unit))


def _reap(pid: int) -> None:
    process = os.pidfd_open(pid)
    try:
        ended, _, _ = select.select([process], [], [], _STOP_SECONDS)
        if not ended:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(process)
    os.waitpid(pid, 0)


def _read_more_ahead(mountpoint: pathlib.Path) -> None:
    """Lets the kernel read a megabyte at a time, where /sys is writable; it is only speed, so a refusal is no fault."""
    with suppress(OSError):
        # The first answer ends FUSE's handshake, which would set the value back.
        (mountpoint / IMAGE_NAME).stat()
        device = next((point.device for point in mount_points()[::-1] if point.path == mountpoint.absolute()), None)
        if device is not None:
            pathlib.Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(str(_READ_AHEAD_KIB))
