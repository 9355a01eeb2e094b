"""Encrypted volumes: directories of the host's in which it sees ciphertext, shared by the containers of a pod.

Zone: enclave. May import: `workers.enclave.rootfs`, `orchestrator.faults`, the standard library.

Each app enclave mounts the same directory for itself, by gocryptfs from the measured bundle: contents in AES-256-GCM by
blocks of 4 KiB, bound to their file and place; names in EME, the same everywhere (no file in the directory says how to
read it, so none can be forged); the key comes through a pipe. What the host can still do is in docs/adr/0019.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from orchestrator.faults import Code, Permanent
from workers.enclave.rootfs.syscalls import MNT_DETACH, unmount

PROGRAM: Final = "/usr/bin/gocryptfs"
_READY: Final = b"Filesystem mounted and ready."
_MOUNT_SECONDS: Final = 30.0
_END_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Volume:
    """A mounted volume. Whoever uses it can only fail once the process `pid` has ended.

    `says` is the other end of its standard output: open as long as it lives, since a write to nobody would end it.
    """

    pid: int
    mountpoint: Path
    says: BinaryIO

    def unmount(self) -> None:
        """Write back what is in memory, take it off and end its process; fine when that has ended."""
        try:
            unmount(self.mountpoint)
        except OSError:
            with suppress(OSError):
                unmount(self.mountpoint, MNT_DETACH)
        with suppress(ProcessLookupError, ChildProcessError):
            process = os.pidfd_open(self.pid)
            try:
                if not select.select([process], [], [], _END_SECONDS)[0]:
                    os.kill(self.pid, signal.SIGKILL)
            finally:
                os.close(process)
            os.waitpid(self.pid, 0)
        self.says.close()


def mount_volume(source: Path, mountpoint: Path, key: bytes, *, read_only: bool, program: str = PROGRAM) -> Volume:
    """Mount the host's directory `source` at `mountpoint`, which is made. `key`: 32 bytes.

    Raises Permanent(BOOT_VOLUME).
    """
    mountpoint.mkdir(mode=0o700, parents=True)
    options = ["-fg", "-masterkey=stdin", "-deterministic-names", "-sharedstorage", "-allow_other"]
    options += ["-nosuid", "-nodev", "-fsname=enclave-cc", "-ro" if read_only else "-rw"]
    (told, tell), (says, said) = os.pipe(), os.pipe()
    volume_says = os.fdopen(says, "rb", buffering=0)
    # Ours are the workload's, which the host reads, and what it complains of holds names of files.
    streams = [(os.POSIX_SPAWN_DUP2, told, 0), (os.POSIX_SPAWN_DUP2, said, 1)]
    null = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
    try:
        pid = os.posix_spawn(
            program,
            [program, *options, str(source), str(mountpoint)],
            {"PATH": "/usr/bin"},
            file_actions=[*streams, null],
        )
        os.write(tell, key.hex().encode() + b"\n")
    finally:
        for end in (told, tell, said):
            os.close(end)
    volume = Volume(pid, mountpoint, volume_says)
    try:
        _wait(volume)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        volume.unmount()
        raise
    return volume


def _wait(volume: Volume) -> None:
    """Until it says so: it looks into the mount itself before that, and whoever else did would wait for it for ever."""
    ends, said = time.monotonic() + _MOUNT_SECONDS, b""
    while _READY not in said:
        readable, _, _ = select.select([volume.says], [], [], max(ends - time.monotonic(), 0))
        news = volume.says.read(4096) if readable else b""
        if not news:
            got = f"nothing within {_MOUNT_SECONDS:.0f} s"
            if readable:
                ended = os.waitid(os.P_PID, volume.pid, os.WEXITED | os.WNOWAIT)
                got = f"gocryptfs ended with {ended.si_status}" if ended else got
            raise Permanent(
                Code.BOOT_VOLUME,
                "an encrypted volume could not be mounted",
                expected="a directory of the host's, /dev/fuse (10:229) and CAP_SYS_ADMIN",
                got=got,
                advice="see gocryptfs(1), exit codes: 6 is the host's directory, 10 the place to mount at",
            )
        said += news
