"""The node's own software: a tree that runs wherever it is unpacked, on a node with no Python and another C library.

Zone: owner. May import: `deploy.{cli,payload}`, the standard library.

    host/bin/NAME              the launcher (launcher.c), once for each name
    host/bin/python3.11        the same: `sys.executable` of all of them
    host/libexec/              the interpreter; conmon, which the worker starts by name
    host/lib/                  the loader, and every library
    host/lib/python3.11/       every module, as bytecode: the standard library's, others', ours; the one folder searched
    host/lib/programs/NAME.pyc what NAME does

It is not measured, and a rare import must not fail on a node, so others' packages are whole here (docs/adr/0020).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from deploy.cli import SUBCOMMANDS
from deploy.payload import bytecode, launcher
from deploy.payload.closure import LOADER, PYTHON, Closure, Places, Wanted, trace
from deploy.payload.roles import ABSENT, LAZY_MODULES
from deploy.payload.tree import File, Tree

DISTRIBUTION: Final = "enclave-cc"
ON_A_NODE: Final = frozenset({"node"})
"""What of `enclave-cc` there is on a node: what installs, and needs neither a stack nor an owner's keys."""

_MODULES: Final = "host/lib/python3.11"
PLACES: Final = Places(
    interpreter="host/libexec/python3.11",
    stdlib=_MODULES,
    packages=_MODULES,
    libraries="host/lib",
    loader=f"host/lib/{LOADER}",
)
_PROGRAMS: Final = {"host/libexec/conmon": Path("/usr/bin/conmon")}
_BY_NAME: Final = (
    "importlib.metadata",  # click, for --version
    "runpy",  # python -m
    "workers.host.shim.alone",  # a shim whose worker is away runs it
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


PROGRAMS: Final = (
    Program("enclave-cc", "deploy.cli", serves=False),
    Program("containerd-shim-enclave-cc-v2", "workers.host.shim.main", serves=False),
    Program("enclave-cc-worker", "workers.host.__main__"),
    Program("enclave-cc-snapshotter", "workers.host.snapshotter.__main__"),
    Program("enclave-cc-zygote", "workers.host.shim.zygote"),
    Program("enclave-cc-cpu", "workers.host.libos.sim.__main__"),
)


@dataclass(frozen=True, slots=True)
class Host:
    """The tree, and the files of this machine that it was made from."""

    tree: Tree
    inputs: frozenset[Path]


def build_host() -> Host:
    """Trace, compile, and put everything in its place. Raises Permanent(INPUT, NOT_FOUND, RUNTIME)."""
    found = trace(Wanted(_modules(), (*ABSENT, *_BUILDERS), whole=True), PLACES, _PROGRAMS)
    return Host(Tree(_files(found), {}), frozenset(found.inputs()))


def version() -> str:
    """Of this distribution."""
    return metadata.version(DISTRIBUTION)


def _modules() -> tuple[str, ...]:
    commands = (place.partition(":")[0] for name, (place, _) in SUBCOMMANDS.items() if name in ON_A_NODE)
    return (*(program.module for program in PROGRAMS), *commands, *_BY_NAME, *LAZY_MODULES)


def _files(found: Closure) -> dict[str, File]:
    texts = {
        f"host/lib/programs/{program.name}.py": (_SERVE if program.serves else _CALL).format(
            name=program.name, module=program.module
        )
        for program in PROGRAMS
    }
    start = File(content=launcher.compiled(), executable=True)
    names = [*(program.name for program in PROGRAMS), PYTHON.name, *(Path(place).name for place in _PROGRAMS)]
    about = f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version()}\n"
    return {
        **found.files,
        **bytecode.compile_all(PYTHON, found.sources, texts),
        **{f"host/bin/{name}": start for name in names},
        f"{_MODULES}/{DISTRIBUTION.replace('-', '_')}-{version()}.dist-info/METADATA": File(content=about.encode()),
    }
