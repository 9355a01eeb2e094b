"""The measured entry of a bundle: what its first process is, word for word.

It is the file `etc/enclave-cc/enclave.json` of the bundle's image, so an owner who knows the image's measurement knows
it too: `{"argv": ["/usr/bin/python3.11", ...], "env": {"HOME": "/", ...}, "cwd": "/"}`, no other member.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from orchestrator.faults import Code, Permanent

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
            raise _malformed(f"at most {MAX_ENTRY_BYTES} bytes", f"{len(raw)} bytes")
        try:
            document = json.loads(raw.decode(), object_pairs_hook=_once)
        except ValueError as error:
            raise _malformed("JSON in UTF-8, each member once", str(error)) from error
        if not isinstance(document, dict) or set(document) != {"argv", "env", "cwd"}:
            raise _malformed("exactly the members argv, env and cwd", "others")
        argv, env, cwd = document["argv"], document["env"], document["cwd"]
        if not isinstance(argv, list) or not argv or not all(_is_text(word) for word in argv) or argv[0][:1] != "/":
            raise _malformed("argv: a list of strings that starts with an absolute path", repr(argv)[:200])
        if not isinstance(env, dict) or not all(_is_name(name) and _is_text(value) for name, value in env.items()):
            raise _malformed("env: an object of strings", repr(env)[:200])
        if not _is_text(cwd) or cwd[:1] != "/":
            raise _malformed("cwd: an absolute path", repr(cwd)[:200])
        return cls(tuple(argv), tuple(sorted(env.items())), cwd)

    def document(self) -> dict[str, str | list[str] | dict[str, str]]:
        """The entry as JSON values."""
        return {"argv": list(self.argv), "env": dict(self.env), "cwd": self.cwd}

    def cmdline(self) -> bytes:
        """What /proc/PID/cmdline shows of a process started by this entry."""
        return b"".join(word.encode() + b"\0" for word in self.argv)

    def environ(self) -> tuple[bytes, ...]:
        """The entries of /proc/PID/environ, sorted."""
        return tuple(sorted(f"{name}={value}".encode() for name, value in self.env))


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _is_text(value: object) -> bool:
    """A string that a process can be given: no NUL, and nothing that UTF-8 cannot carry."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)


def _is_name(value: str) -> bool:
    return bool(value) and "=" not in value and _is_text(value)


def _malformed(expected: str, got: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        "the bundle's entry manifest is malformed",
        expected=expected,
        got=got,
        advice=f"build the bundle again; its image holds the manifest at {ENTRY_PATH}",
    )
