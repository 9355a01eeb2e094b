"""What the chart has from elsewhere: `python deploy/chart/generate.py [--check]`.

A chart reads nothing outside its folder, so the operator's CustomResourceDefinition and its rules of admission stand
below `enclave-cc/files` once more. `--check` changes nothing and exits with 1 where one is not what its source gives.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from deploy import operator
from deploy.operator.admission.policy import policy

FILES: Final = Path(__file__).resolve().parent / "enclave-cc/files"
CRD: Final = Path(operator.__file__).with_name("crd.yaml")


def copies() -> dict[str, str]:
    """The files' texts by name."""
    return {
        "crd.yaml": CRD.read_text(encoding="utf-8"),
        "admission.json": json.dumps(policy(), indent=1) + "\n",
    }


def stale() -> list[str]:
    """The copies that are missing, outdated or without a source."""
    kept = {path.name: path.read_text(encoding="utf-8") for path in FILES.iterdir()} if FILES.exists() else {}
    fresh = copies()
    return sorted(name for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))


def main() -> None:
    """Write, or with `--check` compare."""
    if sys.argv[1:] == ["--check"]:
        if outdated := stale():
            raise SystemExit(f"not what deploy/operator gives: {', '.join(outdated)}; run: just chart")
    elif sys.argv[1:]:
        raise SystemExit("usage: python deploy/chart/generate.py [--check]")
    else:
        FILES.mkdir(exist_ok=True)
        for name, text in copies().items():
            (FILES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
