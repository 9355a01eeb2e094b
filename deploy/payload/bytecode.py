"""Python sources as bytecode that the interpreter loads without a look at the clock or the source.

Zone: owner. May import: `deploy.payload.tree`, the standard library; runs `_compile`.

Only the bytecode goes into a bundle (PEP 3147, "sourceless"): half the bytes to measure, and the fastest start.
Tracebacks still name file and line; columns are of no use without the source.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deploy.payload.tree import File

COMPILE_WITHIN = 300


def compile_all(python: Path, sources: Mapping[str, Path], generated: Mapping[str, str]) -> dict[str, File]:
    """`module.py` to `module.pyc`, place by place; `generated` modules are given as text.

    The same sources and interpreter give the same bytes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        written = {place: Path(f"{scratch}/{number}.py") for number, place in enumerate(generated)}
        for place, path in written.items():
            path.write_text(generated[place])
        sources = {**sources, **written}
        jobs = [(str(source), f"{scratch}/{place}c", f"/{place}") for place, source in sorted(sources.items())]
        subprocess.run(
            [str(python), "-S", "-s", "-P", "-B", str(Path(__file__).with_name("_compile.py"))],
            input=json.dumps(jobs),
            text=True,
            check=True,
            timeout=COMPILE_WITHIN,
            env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONNODEBUGRANGES": "1"},
            cwd="/",
        )
        return {f"{place}c": File(content=Path(f"{scratch}/{place}c").read_bytes()) for place in sources}
