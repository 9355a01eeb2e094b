"""What goes into which bundle, beside what the closure finds by itself.

Zone: owner. May import: `deploy.payload.closure`, the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.payload.closure import Closure, Places, Wanted, trace

HOME: Final = "opt/enclave-cc"
PLACES: Final = Places(
    interpreter="usr/bin/python3.11",
    stdlib="usr/lib/python3.11",
    packages=HOME,
    libraries="usr/lib/x86_64-linux-gnu",
    loader="usr/lib64/ld-linux-x86-64.so.2",
)
"""In an enclave's root: Python's own files where Debian has them, everything else, ours and others', below HOME."""

LINKS: Final = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}
"""Debian's merged /usr: the kernel looks for the loader in /lib64."""

ENVIRONMENT: Final = {
    # A runtime would add HOME to an environment that lacks it, and the entry would no longer be the measured one.
    "HOME": "/",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/sbin:/usr/bin",
    "PYTHONHASHSEED": "random",
}

LAZY_MODULES: Final = (
    # Imported by name while running, where no import statement of ours shows it.
    "concurrent.futures.thread",  # asyncio.to_thread
    # What cryptography's Rust half imports when it is first needed, and reports as a failed check when it is missing.
    "cryptography.hazmat.backends.openssl.backend",
    "cryptography.hazmat.decrepit.ciphers.algorithms",
    "cryptography.hazmat.decrepit.ciphers.modes",
    "cryptography.hazmat.primitives.asymmetric.dh",
    "cryptography.hazmat.primitives.asymmetric.dsa",
    "cryptography.hazmat.primitives.asymmetric.ed448",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.asymmetric.mldsa",
    "cryptography.hazmat.primitives.asymmetric.mlkem",
    "cryptography.hazmat.primitives.asymmetric.padding",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "cryptography.hazmat.primitives.asymmetric.utils",
    "cryptography.hazmat.primitives.asymmetric.x25519",
    "cryptography.hazmat.primitives.asymmetric.x448",
    "cryptography.hazmat.primitives.ciphers.algorithms",
    "cryptography.hazmat.primitives.ciphers.modes",
    "cryptography.hazmat.primitives.keywrap",
    "cryptography.hazmat.primitives.serialization",
    "cryptography.x509.verification",
    "email.parser",  # http.client, for the headers of an answer
    "encodings.ascii",
    "encodings.idna",  # a host name given to a socket
    "encodings.latin_1",  # http.client, for headers
    "encodings.utf_16_be",  # rfc8785, to sort member names
    "encodings.utf_8",
    "traceback",
)

ABSENT: Final = (
    "rich",  # structlog, for colours
    "aiohttp",  # nats-py, for a bus behind WebSockets
)
"""Taken up where they are installed, by what is named, and not needed: a bundle does not depend on its neighbours."""

MOUNT_POINTS: Final = ("dev", "proc", "run", "sys", "tmp")


@dataclass(frozen=True, slots=True)
class Role:
    """One bundle. `module` has a `main()` that returns the exit status; `programs` come with their libraries."""

    name: str
    module: str
    lazy_modules: tuple[str, ...] = LAZY_MODULES
    absent: tuple[str, ...] = ABSENT
    programs: tuple[str, ...] = ()

    def closure(self) -> Closure:
        """What it takes to run it. Raises Permanent(INPUT)."""
        wanted = Wanted((self.module, *self.lazy_modules), self.absent)
        return trace(wanted, PLACES, {program.lstrip("/"): Path(program) for program in self.programs})


AGENT: Final = Role("agent", "workers.enclave.agent")
_BOOT_PROGRAMS: Final = ("/usr/bin/crun", "/usr/bin/fusermount", "/usr/bin/gocryptfs")
"""What makes the workload's process; what mounts its volumes, and what gocryptfs mounts by."""

BOOT: Final = Role("boot", "workers.enclave.boot.__main__", programs=_BOOT_PROGRAMS)
ROLES: Final = {role.name: role for role in (AGENT, BOOT)}
