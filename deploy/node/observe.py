"""What is on a node now, as values for `plan`.

Zone: host. May import: `deploy.node`, `workers.host.node`, `orchestrator.faults`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deploy.node import record
from deploy.node.configuration import FileChange
from deploy.node.containerd import Effective
from deploy.node.flavours import Flavour
from deploy.node.places import CURRENT, NODE_CONFIG, PAYLOADS, RECORD, Places
from deploy.node.plan import Observed, ServiceState
from deploy.node.record import Record
from deploy.node.services import CPU, ZYGOTE, Unit
from deploy.node.settings import Release
from deploy.node.steps import Node
from workers.host import node as node_config
from workers.host.node_file import BOOT_BUNDLE, ENVIRONMENT, PODS, SHIMS


@dataclass(frozen=True, slots=True)
class Software:
    """containerd on this node: whose, which, and what it makes of its configuration."""

    flavour: Flavour
    version: str
    release: Release
    effective: Effective


def software(node: Node, flavour: Flavour) -> Software:
    """Raises Permanent(NODE_CONTAINERD)."""
    version, release = node.containerd.release()
    return Software(flavour, version, release, node.containerd.dump(node.places.here(flavour.effective)))


def settings(places: Places) -> tuple[node_config.Node, str]:
    """The administrator's node.toml, and its digest. Raises Permanent(INPUT)."""
    path = places.here(NODE_CONFIG)
    parsed = node_config.load(path)
    return parsed, hashlib.sha256(path.read_bytes()).hexdigest()


def names() -> tuple[tuple[Unit, str], ...]:
    """Our services where nobody can tell what they were started with: enough to stop them."""
    return tuple((Unit(name, "", ()), "") for name in (CPU, "enclave-cc-worker", "enclave-cc-snapshotter", ZYGOTE))


def units(places: Places, config: node_config.Node, containerd: str) -> tuple[tuple[Unit, str], ...]:
    """Our services in the order of starting, each with the socket at which it is ready. `containerd`: its socket."""

    def program(name: str) -> str:
        return places.there(f"{CURRENT}/host/bin/{name}")

    environment = {ENVIRONMENT: places.there(NODE_CONFIG)}
    enclaves, snapshotter, zygote = config.enclaves, config.run_dir / "snapshotter.sock", config.run_dir / "zygote.sock"
    found: list[tuple[Unit, str]] = []
    if enclaves.libos == "sim":
        arguments = ("--state", str(config.state_dir / "cpu"), "--socket", str(enclaves.socket))
        command = (program(CPU), *arguments, "--control", str(enclaves.control))
        # Enclaves do not survive their CPU: it is replaced when the machine starts anew, as a real one is.
        found.append((Unit(CPU, "enclave-cc: simulated CPU", command, lasting=True), str(enclaves.control)))
    worker = Unit("enclave-cc-worker", "enclave-cc: host worker", (program("enclave-cc-worker"),), environment)
    layers: tuple[str, ...] = (program("enclave-cc-snapshotter"), "--root", str(config.state_dir / "snapshots"))
    layers += ("--address", str(snapshotter), "--containerd-address", containerd)
    return (
        *found,
        (worker, str(config.run_dir / SHIMS)),
        (Unit("enclave-cc-snapshotter", "enclave-cc: containerd's snapshotter", layers), str(snapshotter)),
        (
            Unit(ZYGOTE, "enclave-cc: parent of pods' shims", (program(ZYGOTE), "--address", str(zygote)), environment),
            str(zygote),
        ),
    )


def observe(
    node: Node,
    services: Iterable[tuple[Unit, str]],
    wanted_files: Iterable[str],
    wanted_links: Iterable[str],
    seen: Software,
) -> Observed:
    """What is known of a node without its administrator's settings. `wanted_files`, `wanted_links`: the services'."""
    places = node.places
    known, content = record.load(places.here(RECORD))
    files = {*wanted_files, *(known.files if known else ())}
    links = {*wanted_links, *(known.links if known else ())}
    current = places.here(CURRENT)
    return Observed(
        record=known,
        record_bytes=content,
        unpacked=frozenset(_unpacked(places)),
        current=str(current.readlink()) if current.is_symlink() else None,
        files={path: _content(places, path) for path in sorted(files)},
        links={path: _target(places, path) for path in sorted(links)},
        missing=(),
        services=tuple(
            ServiceState(unit.name, socket, unit.lasting, node.services.runs(unit.name)) for unit, socket in services
        ),
        handlers=tuple(sorted(seen.effective.handlers)),
        socket=seen.effective.socket,
        settings="",
    )


def missing_folders(places: Places, paths: Iterable[str]) -> tuple[str, ...]:
    """The folders that must be made for these files, the outermost first."""
    parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents if str(parent) != "."}
    return tuple(sorted(parent for parent in parents if not places.here(parent).exists()))


def changes_by_path(known: Record | None) -> Mapping[str, FileChange]:
    """containerd's files that were changed, by their path."""
    return {} if known is None else {change.path: change for change in known.changes}


def _unpacked(places: Places) -> Iterable[str]:
    folder = places.here(PAYLOADS)
    if folder.is_dir():
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
                yield f"{PAYLOADS}/{entry.name}"


def busy(places: Places, config: node_config.Node) -> frozenset[str]:
    """Payloads that pods came from: their shims and their app enclaves are of that one for as long as they live."""
    folder = re.escape(places.there(PAYLOADS))
    found = set()
    for pod in places.reach(str(config.run_dir / PODS)).glob("*"):
        with contextlib.suppress(OSError):  # a link leads to where the node sees it, which may be nowhere here
            pinned = (pod / BOOT_BUNDLE).readlink()
            found |= set(re.findall(rf"^{folder}/([0-9a-f]{{16}})/", str(pinned)))
    return frozenset(f"{PAYLOADS}/{name}" for name in found)


def _content(places: Places, path: str) -> bytes | None:
    here: Path = places.here(path)
    return here.read_bytes() if here.exists() else None


def _target(places: Places, path: str) -> str | None:
    here = places.here(path)
    return str(here.readlink()) if here.is_symlink() else None
