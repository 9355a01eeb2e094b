"""What each way of running the shim imports, held to a checked-in list: it runs once a container, or lives once a pod.

`start` and an orderly `delete` are listed to the last standard module: each costs every container's start its time.
Of the serving process, ours and the third parties' are listed. After a wanted change:
`python tests/architecture/test_shim_modules.py`.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("shim_modules.txt")
WAYS = {
    "start": "import workers.host.shim.main, workers.host.shim.start",
    "delete": "import workers.host.shim.main, workers.host.shim.delete",
    "serve": "import workers.host.shim.serve",
}
_PROGRAM = """
import sys
sys.path[:0] = [{root!r}, {packages!r}]
before = set(sys.modules)
{statement}
print(*sorted(set(sys.modules) - before), sep="\\n")
"""


def imported(way: str) -> list[str]:
    packages = sysconfig.get_paths()["purelib"]
    program = _PROGRAM.format(root=str(ROOT), packages=packages, statement=WAYS[way])
    done = subprocess.run([sys.executable, "-IS", "-c", program], check=True, capture_output=True, text=True)
    modules = done.stdout.splitlines()
    if way != "serve":
        return modules
    ours = {name for name in modules if name.partition(".")[0] in {"workers", "orchestrator", "schemas"}}
    others = {name.partition(".")[0] for name in modules} - {"workers", "orchestrator", "schemas"}
    return sorted(ours) + sorted(name for name in others if not _is_standard(name))


def _is_standard(top: str) -> bool:
    return top in sys.stdlib_module_names or top.startswith("_")


def written() -> str:
    return "\n".join(f"[{way}]\n" + "\n".join(imported(way)) + "\n" for way in WAYS)


def test_the_shim_imports_what_the_list_says_and_nothing_else() -> None:
    assert written() == LIST.read_text()


def test_a_shims_start_imports_neither_a_wire_nor_a_loop() -> None:
    modules = set(imported("start")) | set(imported("delete"))
    assert modules & {"asyncio", "google", "nats", "typing", "pathlib", "subprocess", "tomllib", "structlog"} == set()


if __name__ == "__main__":
    LIST.write_text(written())
