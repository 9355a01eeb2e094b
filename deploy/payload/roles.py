"""What goes into which bundle, beside what the closure finds by itself.

Zone: owner. May import: `schemas.places`, the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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

ABSENT: Final = ("rich",)
"""Used where it is installed, and not needed: by structlog, for colours."""

MOUNT_POINTS: Final = ("dev", "proc", "run", "sys", "tmp")


@dataclass(frozen=True, slots=True)
class Role:
    """One bundle. `module` has a `main()` that returns the exit status; `programs` come with their libraries."""

    name: str
    module: str
    lazy_modules: tuple[str, ...] = LAZY_MODULES
    absent: tuple[str, ...] = ABSENT
    programs: tuple[str, ...] = ()


AGENT: Final = Role("agent", "workers.enclave.agent")
_BOOT_PROGRAMS: Final = ("/usr/bin/crun", "/usr/bin/fusermount", "/usr/bin/gocryptfs")
"""What makes the workload's process; what mounts its volumes, and what gocryptfs mounts by."""

BOOT: Final = Role("boot", "workers.enclave.boot.__main__", programs=_BOOT_PROGRAMS)
ROLES: Final = {role.name: role for role in (AGENT, BOOT)}
