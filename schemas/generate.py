"""Generate the Python code of every .proto under schemas/: `python schemas/generate.py [--check]`.

Output stands next to its source as `*_pb2.py` and `*_pb2.pyi` and is checked in, so that nothing needs protoc at
install time. No gRPC stubs: services are served and called from their descriptors, with the types of the messages.
`--check` changes nothing and exits with 1 where the checked-in code is not what the sources give.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Final

from grpc_tools import protoc

ROOT: Final = Path(__file__).resolve().parent.parent


def sources() -> list[str]:
    """Every .proto under schemas/, as protoc names it: relative to the repository's root."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "schemas").rglob("*.proto"))


def generate(out: Path) -> None:
    """Write the generated code under `out`, laid out as the repository is. Exits on a source that does not compile."""
    well_known = files("grpc_tools").joinpath("_proto")
    status = protoc.main(
        ["protoc", f"-I{ROOT}", f"-I{well_known}", f"--python_out={out}", f"--pyi_out={out}", *sources()]
    )
    if status:
        raise SystemExit(status)


def stale() -> list[str]:
    """The generated files that are missing, outdated or without a source, relative to the repository's root."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = {str(path.relative_to(scratch)): path.read_bytes() for path in Path(scratch).rglob("*_pb2.py*")}
    kept = {str(path.relative_to(ROOT)): path.read_bytes() for path in (ROOT / "schemas").rglob("*_pb2.py*")}
    kept = {name: code for name, code in kept.items() if not name.endswith(".pyc")}
    return sorted(name for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))


def main() -> None:
    """Generate, or with `--check` compare."""
    if sys.argv[1:] == ["--check"]:
        if outdated := stale():
            raise SystemExit(f"not what the .proto files give: {', '.join(outdated)}; run: just schemas")
    elif sys.argv[1:]:
        raise SystemExit("usage: python schemas/generate.py [--check]")
    else:
        generate(ROOT)


if __name__ == "__main__":
    main()
