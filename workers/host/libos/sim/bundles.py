"""Bundle images, measured and mounted by the one who vouches for them.

Each image is mounted once, read-only, at `<state>/bundles/<sha256 of the image>`, and all containers of the bundle
share that mount. The kernel reads a file-backed EROFS from the image file for as long as it is mounted, so a file that
changes under a mount would change the code of running enclaves: `Bundle.intact` looks before every promise.
"""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Permanent
from workers.host.libos.sim.measurement import FileState, Measurement, file_state, measure_fd, open_image, sha256_of

if TYPE_CHECKING:
    from workers.host.libos.sim.process import FileId

# Linux, include/uapi/linux/mount.h.
_MS_RDONLY: Final = 1
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MNT_DETACH: Final = 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Bundle:
    """A mounted image. `root` and `program` tell its root directory and its entry's program from all other files.

    `fd` is the image file, open, and `state` its state when it was last found to hold what was measured.
    """

    measurement: Measurement
    path: Path
    root: FileId
    program: FileId
    fd: int
    state: FileState
    sound: bool = field(default=True)

    def intact(self) -> bool:
        """Whether the image file still holds what was measured.

        Its change time moves when it is written, but also when it is renamed, linked or unlinked, as an upgrade does:
        only then is it hashed again. Once found altered, a bundle stays so.
        """
        if self.sound and (now := file_state(self.fd)) != self.state:
            self.sound = sha256_of(self.fd) == self.measurement.image_sha256
            self.state = now
        return self.sound


class Bundles:
    """Every image that was ever asked for since the daemon started. Calls may come from any thread."""

    __slots__ = ("_by_file", "_by_sha256", "_directory", "_lock")

    def __init__(self, state: Path) -> None:
        """Take over the directory `<state>/bundles`: what a dead daemon left mounted there is detached."""
        self._directory = state / "bundles"
        self._directory.mkdir(mode=0o755, exist_ok=True)
        self._by_file: dict[FileState, Measurement] = {}
        self._by_sha256: dict[str, Bundle] = {}
        self._lock = threading.Lock()
        for left in self._directory.iterdir():
            _detach_all(left)

    def mount(self, image: Path) -> Bundle:
        """Measure `image` unless it is known and unchanged, and mount it unless it is mounted.

        `Permanent`: what `measure_image` raises, or RUNTIME when the kernel will not mount it.
        """
        fd = open_image(image)
        with self._lock:
            try:
                bundle = self._mount_fd(fd)
            except BaseException:
                os.close(fd)
                raise
        if bundle.fd != fd:
            os.close(fd)
        return bundle

    def find(self, image_sha256: str) -> Bundle:
        """A bundle that is mounted; `Permanent(NOT_FOUND)` otherwise."""
        bundle = self._by_sha256.get(image_sha256)
        if bundle is None:
            raise Permanent(
                Code.NOT_FOUND,
                "the bundle is not mounted",
                got=image_sha256,
                advice="prepare the bundle again: the simulated CPU was restarted since",
            )
        return bundle

    def mounted(self) -> tuple[Bundle, ...]:
        """All of them."""
        return tuple(self._by_sha256.values())

    def close(self) -> None:
        """Detach every mount: what still runs from one keeps it until it ends."""
        with self._lock:
            for bundle in self._by_sha256.values():
                _detach_all(bundle.path)
                os.close(bundle.fd)
            self._by_sha256.clear()

    def _mount_fd(self, fd: int) -> Bundle:
        state = file_state(fd)
        measurement = self._by_file.get(state) or measure_fd(fd)
        self._by_file[state] = measurement
        known = self._by_sha256.get(measurement.image_sha256)
        if known is not None and known.intact():
            return known
        path = self._directory / measurement.image_sha256
        path.mkdir(mode=0o755, exist_ok=True)
        _detach_all(path)
        _mount_erofs(fd, path)
        try:
            root, program = _identity(path), _program(path, measurement.entry.argv[0])
        except BaseException:
            _detach_all(path)
            raise
        bundle = Bundle(measurement, path, root, program, fd, state)
        if known is not None:
            os.close(known.fd)
        self._by_sha256[measurement.image_sha256] = bundle
        return bundle


def _program(root: Path, argv0: str) -> FileId:
    """The measured program's file. No part of its path is a symbolic link: /proc/PID/exe names what links lead to."""
    fd = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        for name in Path(argv0).parts[1:]:
            below = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = below
        status = os.fstat(fd)
    except OSError as error:
        raise Permanent(
            Code.INPUT,
            "the bundle's entry names a program that the bundle lacks",
            expected="argv[0]: a file of the image",
            got=f"{argv0}: {error.strerror}",
        ) from error
    finally:
        os.close(fd)
    if (status.st_mode & 0o170111) not in {0o100111, 0o100101, 0o100110, 0o100100}:
        raise Permanent(
            Code.INPUT,
            "the bundle's entry names something that cannot be executed",
            expected="argv[0]: an executable file, reached through no symbolic link",
            got=f"{argv0}, mode {status.st_mode:o}",
        )
    return status.st_dev, status.st_ino


def _identity(path: Path) -> FileId:
    status = path.stat()
    return status.st_dev, status.st_ino


def _mount_erofs(fd: int, path: Path) -> None:
    """Mount the open image; by its descriptor, so that it is the file that was hashed whatever its name is now."""
    source = f"/proc/self/fd/{fd}".encode()
    if _libc.mount(source, os.fsencode(path), b"erofs", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, None) != 0:
        number = ctypes.get_errno()
        raise Permanent(
            Code.RUNTIME,
            "the kernel does not mount the bundle's image",
            expected="file-backed EROFS: Linux 6.12 or later with CONFIG_EROFS_FS_BACKED_BY_FILE, and CAP_SYS_ADMIN",
            got=os.strerror(number),
            advice="see `dmesg`; modprobe erofs",
        )


def _detach_all(path: Path) -> None:
    """Unmount whatever is stacked on `path`, lazily."""
    while _libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        pass
