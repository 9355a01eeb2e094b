"""Run by `bytecode` in an interpreter of its own, so that the same sources give the same bytes.

    python -S _compile.py < JOBS     (a JSON array of [source, compiled, name in tracebacks])

PYTHONHASHSEED must be 0: a constant set is written in the order of its hashes. A process that has run other code would
also mark other constants as shared.
"""

from __future__ import annotations

import json
import py_compile
import sys
from pathlib import Path


def main() -> None:
    for source, compiled, shown in json.load(sys.stdin):
        Path(compiled).parent.mkdir(parents=True, exist_ok=True)
        py_compile.compile(
            source,
            cfile=compiled,
            dfile=shown,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


if __name__ == "__main__":
    main()
