"""What containerd must know of us: the snapshotter, the runtime handler, and that snapshots are told their image.

Zone: host. May import: `deploy.node.{places,toml_edit}`.

One form for each of containerd's configurations; sources: containerd docs/cri/config.md, docs/PLUGINS.md, RELEASES.md.

- Version 1 and 2: the CRI plugin is one table. containerd 2 reads it too, and migrates it file by file: what a drop-in
  says of this plugin must be in the version of the root file, or one of the two is lost (tried with 2.1.9).
- Version 3 and 4: images and runtime are two plugins.

1.6 has one snapshotter for all pods: ours then serves ordinary images as overlayfs does. From 1.7 it is the handler's,
and no other pod depends on us; the pod says by an annotation for which handler its images are pulled (docs/adr/0021).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from deploy.node.places import CURRENT, Places
from deploy.node.toml_edit import Key, Value, Wanted

HANDLER: Final = "enclave-cc"
RUNTIME_TYPE: Final = "io.containerd.enclave-cc.v2"
SNAPSHOTTER: Final = "enclave-cc"
SHIM: Final = f"{CURRENT}/host/bin/containerd-shim-enclave-cc-v2"
IMAGES: Final = ("plugins", "io.containerd.cri.v1.images")
RUNTIMES: Final = {
    1: ("plugins", "cri", "containerd", "runtimes"),
    2: ("plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes"),
    3: ("plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes"),
    4: ("plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes"),
}
"""Where a configuration of each version has its runtime handlers."""


@dataclass(frozen=True, slots=True)
class Release:
    """containerd's own version."""

    major: int
    minor: int

    @property
    def merges_imports(self) -> bool:
        """Before 2.0 an imported file replaced whole plugin tables: one runtime in it was then the only one."""
        return self.major >= 2

    @property
    def finds_shims_by_path(self) -> bool:
        """Whether it starts a handler's `runtime_path`. 1.6 reads that, and then looks for the shim by name."""
        return (self.major, self.minor) >= (1, 7)

    @property
    def snapshotter_of_a_handler(self) -> bool:
        """Whether a handler may have a snapshotter of its own."""
        return (self.major, self.minor) >= (1, 7)


def links(release: Release, places: Places) -> dict[str, str]:
    """Where containerd looks for the shim by its name: the first folder of what systemd gives a service as PATH."""
    if release.finds_shims_by_path:
        return {}
    return {f"usr/local/bin/{PurePosixPath(SHIM).name}": places.there(SHIM)}


def wanted(version: int, release: Release, places: Places, snapshotter: str) -> Wanted:
    """What a file of that version shall say; `snapshotter` is the socket of ours, as the node calls it."""
    handler: dict[str, Value] = {
        "runtime_type": RUNTIME_TYPE,
        "runtime_path": places.there(SHIM),
        "pod_annotations": ["enclave-cc/*"],
    }
    if release.snapshotter_of_a_handler:
        handler["snapshotter"] = SNAPSHOTTER
    runtimes = RUNTIMES[version]
    tables: dict[Key, dict[str, Value]] = {
        ("proxy_plugins", SNAPSHOTTER): {"type": "snapshot", "address": snapshotter},
        (*runtimes, HANDLER): handler,
    }
    values: dict[Key, Value] = {}
    cri = runtimes[:-1]
    if version <= 2:
        values[*cri, "disable_snapshot_annotations"] = False
        if not release.snapshotter_of_a_handler:
            values[*cri, "snapshotter"] = SNAPSHOTTER
    else:
        values[*IMAGES, "disable_snapshot_annotations"] = False
    if release.merges_imports:
        tables[*IMAGES, "runtime_platforms", HANDLER] = {"snapshotter": SNAPSHOTTER}
    return Wanted(tables, values)
