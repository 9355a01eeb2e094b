"""The kept build of Kubernetes: whole or not there, and of today's recipe."""

from __future__ import annotations

import os
from pathlib import Path

from tests.kubernetes.build import built, recipe


def test_the_newest_whole_build_of_this_recipe_serves(tmp_path: Path) -> None:
    assert built(tmp_path) is None
    for name in (f"1.20.2-1-{recipe()}.partial/bin", f"1.20.2-1-{recipe()}/bin.partial", "1.20.2-1-0123456789ab/bin"):
        (tmp_path / name).mkdir(parents=True)
    assert built(tmp_path) is None
    for second, version in enumerate(("1.20.2-9", "1.20.2-10")):
        folder = tmp_path / f"{version}-{recipe()}/bin"
        folder.mkdir(parents=True)
        os.utime(folder, (second, second))
    assert built(tmp_path) == tmp_path / f"1.20.2-10-{recipe()}/bin"
