"""The closure of an entry module: exactly the modules it imports, with the interpreter and the libraries they need.

Zone: owner. May import: `deploy.payload.{elf,tree}`, the standard library.

What is needed is found by importing the entry modules in an interpreter of its own and looking at what that took. Where
each kind of file goes in the tree is the caller's: an enclave's root keeps Python's own places, a node's software has
none that is fixed.
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.payload import elf
from deploy.payload.tree import File
from orchestrator.faults import Code, Permanent

PYTHON: Final = Path("/usr/bin/python3.11")
PROJECT: Final = Path(__file__).resolve().parents[2]
OURS: Final = frozenset({"orchestrator", "workers", "schemas", "deploy"})
_STDLIB: Final = Path("/usr/lib/python3.11")
_DIST: Final = Path("/usr/lib/python3/dist-packages")
LOADER: Final = "ld-linux-x86-64.so.2"
_NOT_RUN: Final = frozenset({"test", "tests", "testing", "__pycache__"})
"""Folders of packages that only their authors run."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`modules` are imported; `absent` must seem not to be installed.

    `whole`: of others' packages everything, for what is not measured and must not fail for a module that is imported
    by name in a rare case.
    """

    modules: tuple[str, ...]
    absent: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Places:
    """Where in the tree: the interpreter and the loader are files, the others folders. No leading slashes."""

    interpreter: str
    stdlib: str
    packages: str
    libraries: str
    loader: str


@dataclass(frozen=True, slots=True)
class Closure:
    """`sources` are Python files by their place in the tree; `files` everything else."""

    sources: dict[str, Path]
    files: dict[str, File]

    def inputs(self) -> set[Path]:
        """Every file of this machine that is in it."""
        return {*self.sources.values(), *(file.source for file in self.files.values() if file.source)}


def trace(wanted: Wanted, places: Places, programs: Mapping[str, Path]) -> Closure:
    """Import what is wanted and collect what that took; `programs` and their libraries as well, by their place.

    Raises Permanent(INPUT) when something cannot be imported.
    """
    packages = Path(sysconfig.get_paths()["platlib"])
    loaded, mapped = _run_trace(packages, wanted)
    modules = {*loaded, *(_siblings(loaded, packages) if wanted.whole else ())}
    sources: dict[str, Path] = {}
    files = {places.interpreter: File(PYTHON, executable=True)}
    for path in sorted(modules):
        place = _place(path, packages, places)
        if path.suffix == ".py":
            sources[place] = path
        else:
            # Debian's are stripped as they come; a wheel's may hold more symbols than code.
            files[place] = File(path, executable=True, stripped=path.is_relative_to(packages))
    # The interpreter knows its library by this file.
    sources[f"{places.stdlib}/os.py"] = _STDLIB / "os.py"
    files |= {place: File(program.resolve(), executable=True) for place, program in programs.items()}
    objects = [file.source for file in files.values() if file.source and elf.is_elf(file.source)]
    # What is mapped without being linked was opened by name while importing.
    linked = elf.libraries(objects)
    known = {path.resolve() for path in (*linked, *modules)}
    for library in linked | {path for path in mapped if path.resolve() not in known}:
        files[_library_place(library, packages, places)] = File(library.resolve(), executable=True)
    return Closure(sources, files)


def _siblings(loaded: Iterable[Path], packages: Path) -> Iterator[Path]:
    """All modules of the packages, other than ours, that something was loaded from."""
    tops = {
        base / path.relative_to(base).parts[0]
        for path in loaded
        for base in (packages, _DIST, _STDLIB)
        if path.is_relative_to(base)
    }
    for top in sorted(top for top in tops if top.is_dir() and top.name not in OURS | {"lib-dynload"}):
        for path in top.rglob("*"):
            inner = path.relative_to(top).parts
            if path.suffix in {".py", ".so"} and _NOT_RUN.isdisjoint(inner) and "-" not in path.stem:
                yield path


def _run_trace(packages: Path, wanted: Wanted) -> tuple[list[Path], set[Path]]:
    """`(modules' files, mapped libraries)`."""
    script = Path(__file__).with_name("_trace.py")
    lists = ([str(PROJECT), str(packages)], list(wanted.modules), list(wanted.absent))
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
            f"{wanted.modules[0]}, or what goes with it, cannot be imported",
            expected="a module that imports without side effects",
            got=traced.stderr.strip()[-1000:],
            advice="try it: .venv/bin/python -c 'import MODULE'",
        )
    told = json.loads(traced.stdout)
    return sorted({Path(file) for file in told["modules"].values()}), {Path(file) for file in told["libraries"]}


def _place(path: Path, packages: Path, places: Places) -> str:
    """Where a module's file stands in the tree."""
    for base in (packages, _DIST, PROJECT):
        if path.is_relative_to(base):
            return f"{places.packages}/{path.relative_to(base)}"
    if path.is_relative_to(_STDLIB):
        return f"{places.stdlib}/{path.relative_to(_STDLIB)}"
    raise Permanent(
        Code.INPUT,
        "a module comes from an unexpected place",
        expected=f"{_STDLIB}, {packages} or {PROJECT}",
        got=str(path),
        advice="the environment must be the one that deploy/setup.sh makes, from Debian's own Python",
    )


def _library_place(library: Path, packages: Path, places: Places) -> str:
    """Libraries that came in a wheel stay beside their module; the system's have one folder."""
    if library.is_relative_to(packages):
        return f"{places.packages}/{library.relative_to(packages)}"
    return places.loader if library.name == LOADER else f"{places.libraries}/{library.name}"
