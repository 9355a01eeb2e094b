"""The app's root: the sealed image below, memory above.

Zone: enclave. May import: `erofs_format`, `syscalls`, `orchestrator.faults`.

Four mounts, all in one directory, so that nothing else of the container need be writable:

    target          tmpfs, bounded: what the app writes, in enclave memory
    target/lower    EROFS on the served image file (file-backed: Linux 6.12 or later)
    target/upper, target/work   overlayfs's own, in the tmpfs
    target          overlayfs over both; it covers the tmpfs, so that no path leads around it

The tmpfs is made private first: no mount below it is ever seen by the host's namespace. The merged root has neither
nosuid nor nodev nor noexec, because an unmodified image's set-id programs must work; what is beneath it has, and
overlayfs asks only the flags of the mount in use.

overlayfs does its work with the rights of the process that mounted it, whoever uses it later. So that process needs,
beside CAP_SYS_ADMIN: DAC_OVERRIDE (its work directory has mode 0), and for copying up and changing what images hold
CHOWN, FOWNER, FSETID, SETFCAP and MKNOD. It may drop them all afterwards.
"""

from __future__ import annotations

import errno
import os
import pathlib
import platform
from contextlib import suppress

from orchestrator.faults import Code, Permanent, Temporary
from workers.enclave.rootfs.erofs_format import BLOCK, inode_area_offset
from workers.enclave.rootfs.syscalls import MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_RDONLY, mount, unmount

_OPTIONS = "index=off,metacopy=off,redirect_dir=nofollow"
"""Nothing in an image may redirect a lookup; renaming a directory of the image copies it, as under containerd."""


def mount_root(image_file: pathlib.Path, target: pathlib.Path, upper_tmpfs_size: int) -> None:
    """Mounts the image at `target`, an existing directory, writable into at most `upper_tmpfs_size` bytes of memory.

    Raises `Permanent` (BOOT_STORE) and leaves nothing mounted.
    """
    target = target.absolute()
    if any(character in str(target) for character in ",:\\\n"):
        raise Permanent(
            Code.BOOT_STORE,
            "the root cannot be mounted at this path",
            expected="a path without comma, colon, backslash or newline: overlayfs reads them as its own",
            got=str(target),
        )
    lower, upper, work = target / "lower", target / "upper", target / "work"
    step = "the memory filesystem"
    try:
        # An inode costs the kernel about a kilobyte, which the size option does not count.
        inodes = max(upper_tmpfs_size // BLOCK, 1024)
        options = f"size={upper_tmpfs_size},nr_inodes={inodes},mode=0700"
        mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, options)
        mount("none", target, None, MS_PRIVATE)
        for directory in (lower, upper, work):
            directory.mkdir()
        step = "the sealed image"
        mount(str(image_file), lower, "erofs", MS_RDONLY | MS_NOSUID | MS_NODEV)
        _read_metadata_ahead(image_file)
        _copy_attributes(lower, upper)
        step = "the overlay"
        mount("overlay", target, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work},{_OPTIONS}")
    except OSError as refusal:
        _unwind(lower, target)
        raise _fault(step, refusal) from refusal


def unmount_root(target: pathlib.Path) -> None:
    """Takes off what `mount_root` mounted. Raises `Temporary` (BOOT_STORE) while something uses it."""
    target = target.absolute()
    try:
        unmount(target)
        unmount(target / "lower")
        unmount(target)
    except OSError as refusal:
        raise Temporary(
            Code.BOOT_STORE,
            "the root cannot be unmounted",
            got=os.strerror(refusal.errno or 0),
            advice="end the processes that run in it",
        ) from refusal


def _unwind(lower: pathlib.Path, target: pathlib.Path) -> None:
    for path in (lower, target):
        with suppress(OSError):
            unmount(path)


def _read_metadata_ahead(image_file: pathlib.Path) -> None:
    """All inodes lie at the end of the image: one read of them answers every lookup of the app's start."""
    descriptor = os.open(image_file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        start = inode_area_offset(os.pread(descriptor, BLOCK, 0))
        os.posix_fadvise(descriptor, start, 0, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(descriptor)


def _copy_attributes(lower: pathlib.Path, upper: pathlib.Path) -> None:
    """The merged root shows the upper directory's attributes, so it gets the image's."""
    status = lower.stat()
    os.chown(upper, status.st_uid, status.st_gid)
    upper.chmod(status.st_mode & 0o7777)
    for name in os.listxattr(lower):
        os.setxattr(upper, name, os.getxattr(lower, name))
    os.utime(upper, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _fault(step: str, refusal: OSError) -> Permanent:
    number = refusal.errno or 0
    advice = {
        errno.ENOTBLK: "file-backed EROFS needs Linux 6.12 or later with CONFIG_EROFS_FS_BACKED_BY_FILE",
        errno.ENODEV: "the kernel needs CONFIG_EROFS_FS, CONFIG_OVERLAY_FS and CONFIG_TMPFS_XATTR",
        errno.EPERM: "the container needs CAP_SYS_ADMIN",
        errno.EACCES: "the container needs CAP_DAC_OVERRIDE beside CAP_SYS_ADMIN",
        errno.EIO: "the sealed store failed a check: see its reports",
    }.get(number, "see the kernel's log for the reason")
    return Permanent(
        Code.BOOT_STORE,
        f"{step} could not be mounted",
        expected="tmpfs, EROFS on a file and overlayfs, for a process with CAP_SYS_ADMIN",
        got=f"{os.strerror(number)} on Linux {platform.release()}",
        advice=advice,
    )
