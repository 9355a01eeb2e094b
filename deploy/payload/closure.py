"""The closure of an entry module: exactly the modules it imports, with the interpreter and the libraries they need.

Zone: owner. May import: `deploy.payload.{elf,tree}`, the standard library.

What a bundle holds is found by importing the entry module in an interpreter of its own and looking at what that took.
Python's own files keep their places; everything else, ours and others', goes below /opt/enclave-cc.
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.payload import elf
from deploy.payload.roles import Role
from deploy.payload.tree import File
from orchestrator.faults import Code, Permanent

PYTHON: Final = Path("/usr/bin/python3.11")
HOME: Final = "opt/enclave-cc"
PROJECT: Final = Path(__file__).resolve().parents[2]
_STDLIB: Final = Path("/usr/lib/python3.11")
_DIST: Final = Path("/usr/lib/python3/dist-packages")
_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
_LOADER: Final = "ld-linux-x86-64.so.2"


@dataclass(frozen=True, slots=True)
class Closure:
    """`sources` are Python files by their place in the bundle; `files` everything else; `links` symbolic."""

    sources: dict[str, Path]
    files: dict[str, File]
    links: dict[str, str]


def trace(role: Role) -> Closure:
    """Import the role's module and collect what that took. Raises Permanent(INPUT) when it cannot be imported."""
    packages = Path(sysconfig.get_paths()["platlib"])
    loaded, mapped = _run_trace(packages, role)
    sources: dict[str, Path] = {}
    files = {str(PYTHON).lstrip("/"): File(PYTHON, executable=True)}
    for path in loaded:
        place = _place(path, packages)
        if path.suffix == ".py":
            sources[place] = path
        else:
            # Debian's are stripped as they come; a wheel's may hold more symbols than code.
            files[place] = File(path, executable=True, stripped=path.is_relative_to(packages))
    # The interpreter knows its library by this file.
    sources["usr/lib/python3.11/os.py"] = _STDLIB / "os.py"
    programs = {program.lstrip("/"): File(Path(program).resolve(), executable=True) for program in role.programs}
    files |= programs
    objects = [file.source for file in files.values() if file.source and elf.is_elf(file.source)]
    # What is mapped without being linked was opened by name while importing.
    linked = elf.libraries(objects)
    known = {path.resolve() for path in (*linked, *loaded)}
    for library in linked | {path for path in mapped if path.resolve() not in known}:
        files[_library_place(library, packages)] = File(library.resolve(), executable=True)
    links = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}
    return Closure(sources, files, links)


def _run_trace(packages: Path, role: Role) -> tuple[list[Path], set[Path]]:
    """`(modules' files, mapped libraries)`."""
    script = Path(__file__).with_name("_trace.py")
    lists = ([str(PROJECT), str(packages)], [role.module, *role.lazy_modules], list(role.absent))
    traced = subprocess.run(
        [str(PYTHON), "-I", "-B", "-S", str(script), *map(json.dumps, lists)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8"},
        cwd="/",
    )
    if traced.returncode:
        raise Permanent(
            Code.INPUT,
            f"{role.module} cannot be imported",
            expected="a module that imports without side effects",
            got=traced.stderr.strip()[-1000:],
            advice="try it: .venv/bin/python -c 'import MODULE'",
        )
    told = json.loads(traced.stdout)
    return sorted({Path(file) for file in told["modules"].values()}), {Path(file) for file in told["libraries"]}


def _place(path: Path, packages: Path) -> str:
    """Where a module's file stands in the bundle."""
    for base in (packages, _DIST, PROJECT):
        if path.is_relative_to(base):
            return f"{HOME}/{path.relative_to(base)}"
    if path.is_relative_to(_STDLIB):
        return str(path).lstrip("/")
    raise Permanent(
        Code.INPUT,
        "a module comes from an unexpected place",
        expected=f"{_STDLIB}, {packages} or {PROJECT}",
        got=str(path),
        advice="the environment must be the one that deploy/setup.sh makes, from Debian's own Python",
    )


def _library_place(library: Path, packages: Path) -> str:
    """Libraries that came in a wheel stay beside their module; the system's have one folder."""
    if library.is_relative_to(packages):
        return f"{HOME}/{library.relative_to(packages)}"
    return f"usr/lib64/{_LOADER}" if library.name == _LOADER else f"{_LIBRARIES}/{library.name}"
