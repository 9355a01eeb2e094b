"""Whose containerd a node has: where its configuration, its program and its service are.

Zone: host. May import: `deploy.node.places`, the standard library.

Sources: containerd's own packages; the documentation of k3s, RKE2, k0s and MicroK8s on their containerd. Not run on
those four (no such node here): what is tested is that their files are found and changed as documented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deploy.node.places import Places

_PATH: Final = ("usr/local/bin", "usr/bin", "usr/local/sbin", "usr/sbin")


@dataclass(frozen=True, slots=True)
class Flavour:
    """Paths without a leading slash.

    config: what an administrator edits. effective: what containerd reads, where that is generated from it.
    drop_ins: a folder that is read beside it. programs: where containerd may lie, in order. units: its systemd service,
    the first that is installed. watches: it takes up a drop-in without a restart.
    """

    name: str
    config: str
    effective: str
    drop_ins: str
    programs: tuple[str, ...]
    units: tuple[str, ...]
    watches: bool = False

    @property
    def generated(self) -> bool:
        """Whether what containerd reads is written by somebody else."""
        return self.config != self.effective


def _rancher(name: str, program: str) -> Flavour:
    folder = f"var/lib/rancher/{name}/agent/etc/containerd"
    units = ("k3s.service", "k3s-agent.service") if name == "k3s" else ("rke2-server.service", "rke2-agent.service")
    return Flavour(
        name, f"{folder}/config.toml.tmpl", f"{folder}/config.toml", f"{folder}/config-v3.toml.d", (program,), units
    )


PLAIN: Final = Flavour(
    "containerd",
    "etc/containerd/config.toml",
    "etc/containerd/config.toml",
    "etc/containerd/conf.d",
    tuple(f"{folder}/containerd" for folder in _PATH),
    ("containerd.service",),
)
FLAVOURS: Final = (
    _rancher("k3s", "var/lib/rancher/k3s/data/current/bin/containerd"),
    _rancher("rke2", "var/lib/rancher/rke2/bin/containerd"),
    Flavour(
        "k0s",
        "etc/k0s/containerd.toml",
        "etc/k0s/containerd.toml",
        "etc/k0s/containerd.d",
        ("var/lib/k0s/bin/containerd",),
        ("k0scontroller.service", "k0sworker.service"),
        watches=True,
    ),
    Flavour(
        "microk8s",
        "var/snap/microk8s/current/args/containerd-template.toml",
        "var/snap/microk8s/current/args/containerd.toml",
        "",
        ("snap/microk8s/current/bin/containerd",),
        ("snap.microk8s.daemon-containerd.service",),
    ),
)


def detect(places: Places) -> Flavour:
    """The first of the distributions whose containerd is configured here, else containerd's own place."""
    return next((flavour for flavour in FLAVOURS if places.here(flavour.effective).exists()), PLAIN)
