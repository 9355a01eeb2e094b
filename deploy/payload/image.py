"""The payload's image: bundles, the node's software, what is in it and where it came from; as an OCI layout.

Zone: owner. May import: `deploy.payload`, the standard library.

    payload.json               every other file with its digest, and what each bundle measures to
    bundles/LIBOS/NAME.erofs   one folder for each LibOS
    host/                      see `host` and `software`
    sbom.spdx.json             see `sbom`

Three layers (bundles, host, the two documents), so that an upgrade fetches what has changed. No configuration of
anyone's is in it: what differs between two installations is bound to an enclave by its CONFIGID, or lies on the node.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.payload import inputs, oci_layout, sbom
from deploy.payload.bundle import CACHE, Built, build_bundle
from deploy.payload.host import build_host
from deploy.payload.layer import packed
from deploy.payload.origin import Origin, origins
from deploy.payload.roles import ROLES
from deploy.payload.software import Host, version
from deploy.payload.tree import File

FORMAT: Final = 1
MANIFEST: Final = "payload.json"
SBOM: Final = "sbom.spdx.json"
LIBOS: Final = "sim"
"""The one LibOS that bundles are built for here; the others' have their place beside it, under their names."""

PROGRAMS: Final = ("enclave-cc", "containerd-shim-enclave-cc-v2")
"""What a node's administrator and its containerd look for by name, below host/bin."""

INPUTS: Final = "io.enclave-cc.inputs"
"""The label with the digest of the list of what it was built from; of a release, of the checked-in one."""

_TITLE: Final = "org.opencontainers.image.title"
_VERSION: Final = "org.opencontainers.image.version"


@dataclass(frozen=True, slots=True)
class Payload:
    """`digest` is the image manifest's, by which a payload is named; `index` is what a tag points to.

    `departures`: how its inputs are not those of a release; none for a release.
    """

    digest: str
    index: str
    version: str
    measurements: dict[str, str]
    departures: tuple[inputs.Departure, ...]


def build_payload(folder: Path, cache: Path = CACHE, *, locked: bool = False) -> Payload:
    """Write the layout to `folder`, which is replaced.

    With `locked` only from what `inputs.lock` lists: `Permanent(PAYLOAD_*)` otherwise, and nothing is written.

    Raises Permanent(INPUT, NOT_FOUND, RUNTIME).
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".payload-") as scratch:
        work = Path(scratch)
        built, host, came = _parts(work, cache)
        there = inputs.found(came)
        departed = tuple(inputs.departures(inputs.parse(inputs.LOCK.read_bytes()), there, inputs.PINS.read_text()))
        if locked:
            inputs.refuse(departed)
        parts = {name: bundle.inputs for name, bundle in built.items()} | {"host": host.inputs}
        bundles = {_place(bundle): File(bundle.image) for bundle in built.values()}
        listed = {
            SBOM: File(
                content=sbom.render(
                    version(), {part: frozenset(came[path] for path in files) for part, files in parts.items()}
                )
            )
        }
        # Read, and stripped, once.
        software = {
            path: File(content=file.read(), executable=file.executable) for path, file in host.tree.files.items()
        }
        files = {**bundles, **software, **listed}
        manifest = {MANIFEST: File(content=_manifest(built, files))}
        layers = [
            packed(work / f"{number}.tar", layer) for number, layer in enumerate((bundles, software, manifest | listed))
        ]
        measurements = {name: bundle.mrenclave for name, bundle in built.items()}
        config = {
            "Entrypoint": ["/host/bin/enclave-cc"],
            "Env": ["PATH=/host/bin"],
            "Labels": {f"io.enclave-cc.measurement.{LIBOS}.{name}": value for name, value in measurements.items()}
            | {INPUTS: inputs.digest(there)},
            "WorkingDir": "/",
        }
        written = oci_layout.write(
            folder, layers, config, name=version(), annotations={_TITLE: "enclave-cc payload", _VERSION: version()}
        )
        return Payload(written.manifest, written.named, version(), measurements, departed)


def list_inputs(cache: Path = CACHE) -> tuple[inputs.Input, ...]:
    """What a payload would be built from on this machine. Raises as `build_payload`."""
    with tempfile.TemporaryDirectory(prefix="enclave-cc-payload-") as scratch:
        return inputs.found(_parts(Path(scratch), cache)[2])


def _parts(work: Path, cache: Path) -> tuple[dict[str, Built], Host, dict[Path, Origin]]:
    """The bundles, the node's software, and where each file of them comes from."""
    built = {name: build_bundle(role, work / f"{name}.erofs", cache) for name, role in ROLES.items()}
    host = build_host()
    return built, host, origins({*host.inputs, *(path for bundle in built.values() for path in bundle.inputs)})


def _place(bundle: Built) -> str:
    return f"bundles/{LIBOS}/{bundle.role}.erofs"


def _manifest(built: Mapping[str, Built], files: Mapping[str, File]) -> bytes:
    records = [_record(path, files[path]) for path in sorted(files)]
    by_path = {record["path"]: record for record in records}
    bundles = {
        name: {
            "path": _place(bundle),
            "sha256": by_path[_place(bundle)]["sha256"],
            "size": by_path[_place(bundle)]["size"],
            "measurement": bundle.mrenclave,
        }
        for name, bundle in built.items()
    }
    document = {
        "format": FORMAT,
        "version": version(),
        "platform": f"linux/{oci_layout.machine()}",
        "bundles": {LIBOS: bundles},
        "programs": list(PROGRAMS),
        "files": records,
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _record(path: str, file: File) -> dict[str, object]:
    return {
        "path": path,
        "mode": "0755" if file.executable else "0644",
        "sha256": file.digest(),
        "size": len(file.read()),
    }
