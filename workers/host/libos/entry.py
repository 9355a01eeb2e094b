"""The measured entry of a bundle: what its first process is, word for word.

It is the file `etc/enclave-cc/enclave.json` of the bundle's image, so an owner who knows the image's measurement knows
it too: `{"argv": ["/usr/bin/python3.11", ...], "env": {"HOME": "/", ...}, "cwd": "/"}`, no other member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrator.faults import Code, Permanent
from schemas.strict_json import Malformed, nested, only, parse_object, strings, text

ENTRY_PATH: Final = "/etc/enclave-cc/enclave.json"
MAX_ENTRY_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """`argv[0]` is the absolute path of the program; `env` is sorted by name, each name once; `cwd` is absolute.

    A container runtime adds HOME to an environment that lacks it, so a bundle's entry names HOME.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str

    @classmethod
    def parse(cls, raw: bytes) -> Entry:
        """From the file's bytes, strictly. `Permanent(INPUT)` for another shape, a doubled member or a NUL."""
        if len(raw) > MAX_ENTRY_BYTES:
            raise _malformed(f"{len(raw)} bytes")
        try:
            members = parse_object(raw)
            only(members, "argv", "env", "cwd")
            argv, cwd, named = strings(members, "argv"), text(members, "cwd"), nested(members, "env")
            env = tuple((name, text(named, name)) for name in sorted(named))
        except Malformed as error:
            raise _malformed(str(error)) from error
        if not argv or not argv[0].startswith("/") or not cwd.startswith("/"):
            raise _malformed("a program or a working directory without an absolute path")
        if any(not name or "=" in name for name, _ in env):
            raise _malformed("a variable whose name is empty or holds an equals sign")
        if any("\0" in word for word in (*argv, cwd, *(word for variable in env for word in variable))):
            raise _malformed("a NUL, which no process can be given")
        return cls(argv, env, cwd)

    def document(self) -> dict[str, str | list[str] | dict[str, str]]:
        """The entry as JSON values."""
        return {"argv": list(self.argv), "env": dict(self.env), "cwd": self.cwd}

    def cmdline(self) -> bytes:
        """What /proc/PID/cmdline shows of a process started by this entry."""
        return b"".join(word.encode() + b"\0" for word in self.argv)

    def environ(self) -> tuple[bytes, ...]:
        """The entries of /proc/PID/environ, sorted."""
        return tuple(sorted(f"{name}={value}".encode() for name, value in self.env))


def _malformed(got: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        "the bundle's entry manifest is malformed",
        expected=f"at most {MAX_ENTRY_BYTES} bytes of JSON: argv, env and cwd, each once",
        got=got,
        advice=f"build the bundle again; its image holds the manifest at {ENTRY_PATH}",
    )
