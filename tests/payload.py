"""A payload's folder for tests, in its image's format: the checkout's programs under the names of the node's own."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from deploy.payload.bundle import build_bundle
from deploy.payload.roles import BOOT
from workers.host.libos.sim.measurement import measure_image

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = {
    "enclave-cc": "deploy.cli",
    "enclave-cc-worker": "workers.host.__main__",
    "enclave-cc-snapshotter": "workers.host.snapshotter.__main__",
    "enclave-cc-zygote": "workers.host.shim.zygote",
    "enclave-cc-cpu": "workers.host.libos.sim.__main__",
    "containerd-shim-enclave-cc-v2": "workers.host.shim.main",
}
_LAUNCHER = """#!{python} -IS
import site, sys
site.addsitedir({packages!r})
sys.path.insert(0, {project!r})
from {module} import main
sys.exit(main())
"""


def make_payload(folder: Path, version: str, *, bundles: bool = True) -> Path:
    """Write one; another `version` is another payload. Without bundles it is small, and nothing can be launched."""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    values = {"python": sys.executable, "packages": packages, "project": str(REPOSITORY)}
    for name, module in PROGRAMS.items():
        program = folder / "host/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(_LAUNCHER.format(module=module, **values))
        program.chmod(0o755)
    (folder / "host/release").write_text(f"{version}\n")
    parts = {}
    if bundles:
        build_bundle(BOOT, folder / "bundles/sim/boot.erofs")
        parts = {"sim": {name: _bundle(folder, f"bundles/sim/{name}.erofs") for name in ("agent", "boot")}}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    document = {
        "format": 1,
        "version": version,
        "platform": "linux/amd64",
        "bundles": parts,
        "programs": ["enclave-cc", "containerd-shim-enclave-cc-v2"],
        "files": [{"path": str(path.relative_to(folder)), **_described(path)} for path in files],
    }
    (folder / "payload.json").write_text(json.dumps(document, sort_keys=True))
    return folder


def _bundle(folder: Path, place: str) -> dict[str, object]:
    return {"path": place, **_described(folder / place), "measurement": measure_image(folder / place).mrenclave.hex()}


def _described(path: Path) -> dict[str, object]:
    content = path.read_bytes()
    return {"mode": path.stat().st_mode & 0o777, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
