"""What a payload is built from, item by item, and whether that is what a release is built from.

Zone: owner. May import: `deploy.payload`, `orchestrator.faults`, the standard library; runs dpkg-query and gcc.

`inputs.lock` beside this file is the list, one item a line, sorted, without any address:

    KIND NAME VERSION ARCHITECTURE sha256:DIGEST

- `deb`: a Debian package of which files are in the payload. DIGEST is over those files, each by its place and content.
- `pypi`: the same of a Python distribution; its version must also be the one that requirements/runtime.txt pins by
  the hashes of its archives. What is stripped when it is packed is digested stripped (see `elf`).
- `tool`: a Debian package with a program that makes bytes of the payload; DIGEST is over those programs.

The project's own files are not in it: their commit names them.
"""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.payload import elf
from deploy.payload.closure import PROJECT, PYTHON
from deploy.payload.launcher import COMPILER
from deploy.payload.origin import OWN, Origin, origins
from orchestrator.faults import Code, Permanent

LOCK: Final = Path(__file__).with_name("inputs.lock")
PINS: Final = PROJECT / "requirements/runtime.txt"
_HEAD: Final = "# What a release of the payload is built from. `enclave-cc payload lock` writes it; see inputs.py.\n"
_LINE: Final = re.compile(r"(deb|pypi|tool) (\S+) (\S+) (\S+) sha256:([0-9a-f]{64})")
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_TOOLS: Final = ("/usr/bin/mkfs.erofs", "/usr/bin/strip", f"/usr/bin/{COMPILER}", str(PYTHON))
_PASSES: Final = ("cc1", "as", "collect2", "ld")
"""Programs that the compiler runs."""


@dataclass(frozen=True, slots=True, order=True)
class Input:
    """One line of the list. `sha256` is lower-case hex."""

    kind: str
    name: str
    version: str
    architecture: str
    sha256: str

    def line(self) -> str:
        """Its line."""
        return f"{self.kind} {self.name} {self.version} {self.architecture} sha256:{self.sha256}"


@dataclass(frozen=True, slots=True)
class Departure:
    """How what is installed departs from the list; `code` is stable."""

    code: Code
    item: str
    expected: str
    got: str

    def line(self) -> str:
        """For a person, and for who sorts by code."""
        return f"{self.code} {self.item}: {self.expected} is locked, {self.got} is installed"


def found(came: Mapping[Path, Origin]) -> tuple[Input, ...]:
    """The list as it is on this machine, of the files in `came` (see `origins`) and of what packs them."""
    grouped: dict[Origin, list[Path]] = {}
    for path, origin in came.items():
        if origin.name != OWN:
            grouped.setdefault(origin, []).append(path)
    tools: dict[Origin, list[Path]] = {}
    for path, origin in origins(_tools()).items():
        tools.setdefault(origin, []).append(path)
    listed = [_input(origin.kind, origin, paths) for origin, paths in grouped.items()]
    return tuple(sorted([*listed, *(_input("tool", origin, paths) for origin, paths in tools.items())]))


def render(inputs: Iterable[Input]) -> bytes:
    """The list as a file: the same bytes for the same inputs."""
    return (_HEAD + "".join(f"{item.line()}\n" for item in sorted(inputs))).encode()


def digest(inputs: Iterable[Input]) -> str:
    """`sha256:...` of the list as a file."""
    return f"sha256:{hashlib.sha256(render(inputs)).hexdigest()}"


def parse(raw: bytes) -> tuple[Input, ...]:
    """Read it. Raises Permanent(INPUT) for anything that `render` does not write."""
    lines = raw.decode("utf-8", "replace").splitlines()
    items = [_LINE.fullmatch(line) for line in lines if not line.startswith("#")]
    inputs = tuple(Input(*match.groups()) for match in items if match)
    if len(inputs) != len(items) or render(inputs) != raw:
        raise Permanent(
            Code.INPUT,
            "the list of a release's inputs cannot be read",
            expected="the file as `enclave-cc payload lock` writes it",
            got="lines that are malformed, twice there, or out of order",
        )
    return inputs


def departures(locked: Iterable[Input], there: Iterable[Input], pins: str) -> Iterator[Departure]:
    """Every difference, and every Python distribution that `pins` (requirements/runtime.txt) has otherwise."""
    before = {(item.kind, item.name): item for item in locked}
    after = {(item.kind, item.name): item for item in there}
    pinned = {_normal(name): version for name, version in _PIN.findall(pins)}
    for key in sorted({*before, *after}):
        old, new, item = before.get(key), after.get(key), " ".join(key)
        if old is None or new is None:
            yield Departure(Code.PAYLOAD_UNLISTED, item, _version(old), _version(new))
        elif _version(old) != _version(new):
            yield Departure(Code.PAYLOAD_VERSION, item, _version(old), _version(new))
        elif old.sha256 != new.sha256:
            yield Departure(Code.PAYLOAD_CONTENT, item, f"sha256:{old.sha256}", f"sha256:{new.sha256}")
        if new is not None and new.kind == "pypi" and pinned.get(_normal(new.name)) != new.version:
            yield Departure(Code.PAYLOAD_UNPINNED, item, pinned.get(_normal(new.name), "nothing"), new.version)


def refuse(departed: Iterable[Departure]) -> None:
    """Raise for the first of them, naming all; return when there is none. Its code is the fault's."""
    every = tuple(departed)
    if every:
        raise Permanent(
            every[0].code,
            f"this is not what a release is built from: {len(every)} of its inputs differ",
            expected=f"{LOCK.name}: {every[0].item} {every[0].expected}",
            got="\n".join(one.line() for one in every)[:4000],
            advice="install what is listed; or look at what changed, then `enclave-cc payload lock`, and commit that; "
            "`--unlocked` builds what no owner should list",
        )


def _input(kind: str, origin: Origin, paths: Iterable[Path]) -> Input:
    packages = Path(sysconfig.get_paths()["platlib"])
    machine = _MACHINES.get(platform.machine(), platform.machine())
    lines = []
    for path in paths:
        inside = path.is_relative_to(packages)
        place = path.relative_to(packages) if inside else path
        content = elf.stripped(path) if inside and path.suffix != ".py" else path.read_bytes()
        lines.append(f"{hashlib.sha256(content).hexdigest()} {place}\n")
    digest = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    return Input(kind, origin.name.partition(":")[0], origin.version, machine, digest)


def _tools() -> list[Path]:
    said = [
        subprocess.run(
            [COMPILER, f"-print-prog-name={name}"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        for name in _PASSES
    ]
    return [Path("/usr/bin", program).resolve() for program in (*_TOOLS, *said)]


def _version(item: Input | None) -> str:
    return f"{item.version} {item.architecture}" if item else "nothing"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
