"""Software that runs wherever it is unpacked, where there is no Python and another C library: a tree below `host/`.

Zone: owner. May import: `deploy.{cli,payload}`, the standard library.

    host/bin/NAME              the launcher (launcher.c), once for each name
    host/bin/python3.11        the same: `sys.executable` of all of them
    host/libexec/              the interpreter, and programs that are started by name
    host/lib/                  the loader, and every library
    host/lib/python3.11/       every module, as bytecode: the standard library's, others', ours; the one folder searched
    host/lib/programs/NAME.pyc what NAME does

It is not measured, and a rare import must not fail, so others' packages are whole here (docs/adr/0020). What modules
read beside themselves is named: no import shows it.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final

from deploy.cli import SUBCOMMANDS
from deploy.payload import bytecode, launcher
from deploy.payload.closure import LOADER, OURS, PROJECT, PYTHON, Closure, Places, Wanted, trace
from deploy.payload.origin import OWN, distributions
from deploy.payload.roles import LAZY_MODULES
from deploy.payload.tree import File, Tree
from orchestrator.faults import Code, Permanent

MODULES: Final = "host/lib/python3.11"
_PLACES: Final = Places(
    interpreter="host/libexec/python3.11",
    stdlib=MODULES,
    packages=MODULES,
    libraries="host/lib",
    loader=f"host/lib/{LOADER}",
)
_BY_NAME: Final = (
    "importlib.metadata",  # click, for --version
    "runpy",  # python -m
)
"""Modules that no import statement of ours names."""

_BUILDERS: Final = ("grpc_tools",)
"""grpc takes it up where it is installed, to compile .proto files while it runs."""

_CALL: Final = """import sys
from {module} import main
sys.exit(main())
"""
_SERVE: Final = """import os
import sys
# What runs is the loader: without this `ps` and `top` would call every process by its name.
with open("/proc/self/comm", "w") as comm:
    comm.write("{name}")
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", os.defpath)
from {module} import main
sys.exit(main())
"""


@dataclass(frozen=True, slots=True)
class Program:
    """`name` below host/bin runs `main()` of `module`. `serves`: it stays."""

    name: str
    module: str
    serves: bool = True


@dataclass(frozen=True, slots=True)
class Software:
    """What is wanted.

    Attributes:
        programs: what lies below host/bin.
        subcommands: those of `enclave-cc` that work; the others' modules are left out.
        modules: that no import statement of ours names.
        absent: packages that must seem not to be installed.
        companions: programs of this machine that come along, below host/libexec.
        beside: globs of files that modules read, in their packages: `celpy/cel.lark`.
    """

    programs: tuple[Program, ...]
    subcommands: frozenset[str]
    modules: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    companions: Mapping[str, Path] = field(default_factory=dict)
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """The tree, and the files of this machine that it was made from."""

    tree: Tree
    inputs: frozenset[Path]


def build(software: Software) -> Host:
    """Trace, compile, and put everything in its place. Raises Permanent(INPUT, NOT_FOUND, RUNTIME)."""
    commands = (SUBCOMMANDS[name][0].partition(":")[0] for name in sorted(software.subcommands))
    modules = (*(program.module for program in software.programs), *commands, *software.modules)
    companions = {f"host/libexec/{name}": place for name, place in software.companions.items()}
    wanted = Wanted((*modules, *_BY_NAME, *LAZY_MODULES), (*software.absent, *_BUILDERS), whole=True)
    found = trace(wanted, _PLACES, companions)
    beside = _beside(software.beside)
    inputs = frozenset({*found.inputs(), *(file.source for file in beside.values() if file.source)})
    return Host(Tree({**_files(software, found), **beside}, {}), inputs)


def version() -> str:
    """Of this distribution."""
    return metadata.version(OWN)


def _files(software: Software, found: Closure) -> dict[str, File]:
    texts = {
        f"host/lib/programs/{program.name}.py": (_SERVE if program.serves else _CALL).format(
            name=program.name, module=program.module
        )
        for program in software.programs
    }
    start = File(content=launcher.compiled(), executable=True)
    names = [*(program.name for program in software.programs), PYTHON.name, *software.companions]
    return {
        **found.files,
        **bytecode.compile_all(PYTHON, found.sources, texts),
        **{f"host/bin/{name}": start for name in names},
        **_described(found),
    }


def _described(found: Closure) -> dict[str, File]:
    """Of every distribution its name and version: some ask for their own when they are imported."""
    return {
        f"{MODULES}/{origin.name.replace('-', '_')}-{origin.version}.dist-info/METADATA": File(
            content=f"Metadata-Version: 2.1\nName: {origin.name}\nVersion: {origin.version}\n".encode()
        )
        for origin in distributions(found.inputs()).values()
    }


def _beside(globs: tuple[str, ...]) -> dict[str, File]:
    packages = Path(sysconfig.get_paths()["platlib"])
    files: dict[str, File] = {}
    for glob in globs:
        base = PROJECT if glob.partition("/")[0] in OURS else packages
        found = sorted(path for path in base.glob(glob) if path.is_file())
        if not found:
            raise Permanent(
                Code.NOT_FOUND,
                f"what modules read beside themselves is not there: {glob}",
                expected=f"files below {base}",
                got="none",
                advice="the environment must be the one that deploy/setup.sh makes",
            )
        files |= {f"{MODULES}/{path.relative_to(base)}": File(path) for path in found}
    return files
