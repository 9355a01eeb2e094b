"""Run by `closure` in an interpreter of its own: import, and tell which files that took.

    python -I -S _trace.py PATHS MODULES ABSENT     (JSON arrays; PATHS are prepended to sys.path)

ABSENT are packages that must seem not to be installed.

Prints a JSON object: `modules`, name to file; `libraries`, the shared objects that are mapped. Also imports what the
project's own modules import inside functions: a lazy import is needed as much as any other, only later.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

OURS = {"orchestrator", "workers", "schemas", "deploy"}


def main() -> None:
    paths, names, absent = (json.loads(argument) for argument in sys.argv[1:])
    sys.path[:0] = paths
    sys.modules.update(dict.fromkeys(absent))
    for name in names:
        importlib.import_module(name)
    seen: set[str] = set()
    while new := {name for name in _files() if name.partition(".")[0] in OURS} - seen:
        seen |= new
        for name in sorted(new):
            for wanted in _imports(Path(_files()[name])):
                importlib.import_module(wanted)
    mapped = {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line}
    json.dump({"modules": _files(), "libraries": sorted(mapped)}, sys.stdout)


def _files() -> dict[str, str]:
    """Modules by name; what is built in or frozen without a file is part of the interpreter."""
    loaded = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return {name: file for name, file in loaded.items() if file and name != "__main__"}


def _imports(source: Path) -> Iterator[str]:
    """Modules named by import statements anywhere in `source`, but for those that only a type checker reads."""
    pending: list[ast.AST] = [ast.parse(source.read_bytes())] if source.suffix == ".py" else []
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if _is_module(node.module, alias.name))
        else:
            pending += ast.iter_child_nodes(node)


def _is_module(package: str, name: str) -> bool:
    found = importlib.import_module(package)
    if hasattr(found, name) or not hasattr(found, "__path__"):
        return False
    return importlib.util.find_spec(f"{package}.{name}") is not None


if __name__ == "__main__":
    main()
