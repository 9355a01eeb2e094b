"""The two images that the chart `deploy/chart` names: the control plane's, and the bus's; as OCI layouts.

Zone: owner. May import: `deploy.payload`, the standard library.

    host/                               see `software`: every program that the chart starts, and what people ask with
    etc/{passwd,group,nsswitch.conf}    whom the user 65532 is called, and that names are asked of files, then of DNS
    etc/ssl/certs/ca-certificates.crt   Debian's authorities: an OpenID provider, an object store, a witness
    sbom.spdx.json

and of the bus `nats-server`, which is one static program, and its sbom.spdx.json. No shell, no package manager; nothing
is written to the root. Neither is measured, for neither learns a secret.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.payload import oci_layout, sbom, software
from deploy.payload.layer import packed
from deploy.payload.origin import origins
from deploy.payload.software import Program, Software
from deploy.payload.tree import File

CONTROL_PLANE: Final = "control-plane"
BUS: Final = "bus"
USER: Final = 65532
"""Whom the chart's pods run as; the image says the same for those who start it otherwise."""

PROGRAMS: Final = (
    Program("enclave-cc", "deploy.cli", serves=False),
    Program("enclave-cc-orchestrator", "orchestrator.__main__"),
)
SUBCOMMANDS: Final = frozenset(
    {
        *("audit", "cluster", "console", "kbs", "operator"),
        # To ask from inside a pod, where there is nothing else to ask with.
        *("launches", "show", "events", "follow", "logs", "verify", "describe", "diff", "replay"),
        *("export", "import", "resume", "fork", "stop"),
    }
)
_SOFTWARE: Final = Software(
    PROGRAMS,
    SUBCOMMANDS,
    # pendulum, which cel-python is over, looks UTC up by name where there are no zones of Debian's.
    modules=("tzdata.zoneinfo",),
    beside=(
        "celpy/cel.lark",
        "deploy/kbs/policies/*.rego",
        "deploy/operator/crd.yaml",
        "lark/grammars/*.lark",
        "orchestrator/console/static/*",
        "orchestrator/console/templates/*",
        "tzdata/zoneinfo/UTC",
    ),
)
_AUTHORITIES: Final = "etc/ssl/certs/ca-certificates.crt"
_MOZILLA: Final = Path("/usr/share/ca-certificates/mozilla")
_STATIC: Final = {
    "etc/passwd": f"root:x:0:0:root:/:/\nenclave-cc:x:{USER}:{USER}:enclave-cc:/:/\n",
    "etc/group": f"root:x:0:\nenclave-cc:x:{USER}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
_VERSION: Final = "org.opencontainers.image.version"
_TITLE: Final = "org.opencontainers.image.title"


@dataclass(frozen=True, slots=True)
class Image:
    """`digest` is the image manifest's, which the chart is given; `index` is what a tag points to."""

    name: str
    version: str
    digest: str
    index: str


def build_images(folder: Path) -> tuple[Image, Image]:
    """Write both layouts, `folder/control-plane` and `folder/bus`, which are replaced.

    Raises Permanent(INPUT, NOT_FOUND, RUNTIME).
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _control_plane(folder / CONTROL_PLANE), _bus(folder / BUS)


def _control_plane(layout: Path) -> Image:
    built = software.build(_SOFTWARE)
    authorities = sorted(_MOZILLA.glob("*.crt"))
    around = {path: File(content=text.encode()) for path, text in _STATIC.items()}
    around[_AUTHORITIES] = File(content=b"".join(path.read_bytes().rstrip() + b"\n" for path in authorities))
    config = {
        "Entrypoint": ["/host/bin/enclave-cc"],
        "Env": ["PATH=/host/bin", "HOME=/tmp", f"SSL_CERT_FILE=/{_AUTHORITIES}"],
    }
    return _write(layout, built.tree.files, around, frozenset({*built.inputs, *authorities}), config)


def _bus(layout: Path) -> Image:
    server = Path(sys.prefix) / "bin/nats-server"
    return _write(
        layout, {server.name: File(server, executable=True)}, {}, frozenset({server}), {"Entrypoint": ["/nats-server"]}
    )


def _write(
    layout: Path,
    programs: Mapping[str, File],
    around: Mapping[str, File],
    inputs: frozenset[Path],
    config: Mapping[str, object],
) -> Image:
    """Two layers: the programs, and what stands beside them with the list of what they came from."""
    name, version = layout.name, software.version()
    listed = sbom.render(version, {"host": frozenset(origins(inputs).values())}, subject=name)
    with tempfile.TemporaryDirectory(dir=layout.parent, prefix=".image-") as scratch:
        layers = [
            packed(Path(scratch) / "0.tar", programs),
            packed(Path(scratch) / "1.tar", {**around, "sbom.spdx.json": File(content=listed)}),
        ]
        written = oci_layout.write(
            layout,
            layers,
            {**config, "User": f"{USER}:{USER}", "WorkingDir": "/"},
            name=version,
            annotations={_TITLE: f"enclave-cc {name}", _VERSION: version},
        )
    return Image(name, version, written.manifest, written.named)
