"""The small images that the demo, the tests and the benchmarks run, as OCI layouts in a cache.

Zone: owner. May import: `deploy.payload.oci_layout`; uses mmdebstrap, and what Debian's packages left on this machine.

Nothing is downloaded but Debian packages, through this machine's own package sources.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.payload import oci_layout
from deploy.payload.oci_layout import SOURCE_DATE_EPOCH
from orchestrator.faults import Code, Permanent, Temporary

CACHE: Final = Path("/var/cache/enclave-cc/images")
PAUSE_PROGRAM: Final = Path("/usr/bin/catatonit")
BUSYBOX: Final = Path("/bin/busybox")
APPLETS: Final = (
    "cat",
    "echo",
    "env",
    "false",
    "hostname",
    "id",
    "ls",
    "mkdir",
    "nc",
    "ps",
    "sh",
    "sleep",
    "true",
    "wget",
)

REDIS_PACKAGES: Final = ("base-files", "base-passwd", "coreutils", "dash", "libc-bin", "redis-server", "redis-tools")
REDIS_ENTRYPOINT: Final = ("/usr/bin/redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "")  # noqa: S104 - of the pod
_LEFT_OUT: Final = ("doc", "man", "locale", "info", "lintian", "bug")
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ACCOUNTS: Final = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nredis:x:999:999::/var/lib/redis:/bin/sh\n",
    "etc/group": b"root:x:0:\nredis:x:999:\n",
}
DEBIAN_WITHIN: Final = 600


def pause() -> Path:
    """The sandbox's image: one static program that sleeps and reaps."""
    binary = _read(PAUSE_PROGRAM, "catatonit")
    tar = _tar({"pause": (binary, 0o755)})
    return _cached("pause", hashlib.sha256(tar), lambda: tar, {"Entrypoint": ["/pause", "-P"], "Env": [_PATH]})


def busybox(
    files: Mapping[str, bytes] | None = None,
    command: Sequence[str] = ("/bin/sh",),
    cache: Path = CACHE,
    user: str = "",
) -> Path:
    """A shell and a few tools in one file, with `files` (path without leading slash: content) beside them.

    `user` is as an image says it: `name-or-uid[:group-or-gid]`; without it, root.
    The layout lies in `cache`, as plain as it is: name another folder for files that are secret.
    """
    binary = _read(BUSYBOX, "busybox-static")
    members = {"bin/busybox": (binary, 0o755), **{name: (body, 0o644) for name, body in (files or {}).items()}}
    members |= {name: (body, 0o644) for name, body in _ACCOUNTS.items()}
    tar = _tar(members, {f"bin/{applet}": "busybox" for applet in APPLETS}, ("tmp", "proc", "sys", "dev", "root"))
    recipe = hashlib.sha256(tar + repr(tuple(command)).encode())
    config = {"Cmd": list(command), "Env": [_PATH], **({"User": user} if user else {})}
    return _cached("busybox", recipe, lambda: tar, config, cache)


def redis() -> Path:
    """Debian's redis-server in a Debian userland of some 50 MB; takes ten seconds the first time."""
    versions = subprocess.run(
        ["apt-cache", "policy", *REDIS_PACKAGES], capture_output=True, check=False, timeout=60
    ).stdout
    recipe = hashlib.sha256(
        repr((REDIS_PACKAGES, REDIS_ENTRYPOINT, _LEFT_OUT, _ACCOUNTS, _suite())).encode() + versions
    )
    config = {
        "Entrypoint": list(REDIS_ENTRYPOINT),
        "Env": [_PATH],
        "ExposedPorts": {"6379/tcp": {}},
        "WorkingDir": "/",
    }
    return _cached("redis", recipe, _debian, config)


def _cached(
    name: str, recipe: hashlib._Hash, build: Callable[[], bytes], config: Mapping[str, object], cache: Path = CACHE
) -> Path:
    """The layout in the cache, under a name that says all that it was made of."""
    recipe.update(repr((sorted(config.items()), platform.machine())).encode())
    folder = cache / f"{name}-{recipe.hexdigest()[:16]}"
    if not (folder / "index.json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, suffix=".tar") as layer:
            layer.write(build())
            layer.flush()
            oci_layout.write(folder, [Path(layer.name)], config)
    return folder


def _debian() -> bytes:
    """The userland's tar. Packages are unpacked, not configured: nothing of them runs while it is built."""
    with tempfile.TemporaryDirectory() as scratch:
        out, accounts = Path(scratch) / "root.tar", Path(scratch) / "accounts"
        for name, body in _ACCOUNTS.items():
            (accounts / name).parent.mkdir(parents=True, exist_ok=True)
            (accounts / name).write_bytes(body)
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", "--format=tar"]
        command += [f"--include={','.join(REDIS_PACKAGES)}", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _LEFT_OUT]
        command += [f'--extract-hook=cp {accounts}/etc/passwd {accounts}/etc/group "$1"/etc/', _suite(), str(out)]
        built = subprocess.run(
            [*command, *_package_sources()],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH)},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEBIAN_WITHIN,
        )
        if built.returncode:
            raise Temporary(
                Code.IMAGE_REGISTRY_AWAY,
                "the demo's image could not be built from Debian packages",
                expected="mmdebstrap with this machine's package sources",
                got=built.stderr.strip()[-500:],
                advice="try `apt-get update`; are the package sources reachable?",
            )
        return out.read_bytes()


def _suite() -> str:
    release = platform.freedesktop_os_release()
    return release.get("VERSION_CODENAME", "stable")


def _package_sources() -> list[str]:
    """What apt itself reads, for mmdebstrap to read."""
    listed = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return [str(path) for path in listed if path.suffix in {".list", ".sources"} and path.is_file()]


def _tar(
    files: Mapping[str, tuple[bytes, int]], links: Mapping[str, str] | None = None, folders: tuple[str, ...] = ()
) -> bytes:
    """A tar of `path: (content, mode)`, symbolic links and empty folders; owner root, one time, sorted."""
    links = links or {}
    parents = {str(parent) for name in (*files, *links, *folders) for parent in Path(name).parents} - {"."}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted({*files, *links, *folders, *parents}):
            entry = tarfile.TarInfo(name)
            entry.mtime = SOURCE_DATE_EPOCH
            if name in files:
                content, entry.mode = files[name]
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            elif name in links:
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, links[name], 0o777
                archive.addfile(entry)
            else:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
                archive.addfile(entry)
    return out.getvalue()


def _read(path: Path, package: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Permanent(
            Code.NOT_FOUND,
            f"{path} is missing",
            expected=f"Debian's package {package}",
            got=type(error).__name__,
            advice="sh deploy/setup.sh installs it",
        ) from error
