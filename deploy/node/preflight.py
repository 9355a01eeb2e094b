"""What containerd itself makes of a changed configuration, asked before anything is replaced.

Zone: host. May import: `deploy.node`, `orchestrator.faults`.

1. containerd reads it.
2. Our handler is there, with our shim and, where it may have one, our snapshotter; so is the snapshotter's socket.
3. Images that are here can be used with it.
4. Every other handler, the default one, and every other value anywhere are what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from deploy.node import durable
from deploy.node.configuration import Target, candidate_root
from deploy.node.containerd import Containerd, Effective
from deploy.node.flavours import Flavour
from deploy.node.places import RUN, Places
from deploy.node.settings import HANDLER, RUNTIME_TYPE, SNAPSHOTTER, Release
from orchestrator.faults import Code, Permanent

_CANDIDATE: Final = f"{RUN}/candidate.toml"
_DROP_IN: Final = f"{RUN}/candidate-drop-in.toml"
_MEANT: Final = ("snapshotter", "disable_snapshot_annotations")
"""Of the CRI's own values, those that we change."""


def check(
    places: Places, flavour: Flavour, containerd: Containerd, release: Release, before: Effective, target: Target
) -> Effective:
    """What containerd will make of it. Raises Permanent(NODE_CONTAINERD), and then nothing may be written."""
    folder = places.there(str(Path(flavour.effective).parent))
    root = candidate_root(target, release, before, folder, places.there(_DROP_IN))
    durable.write(places.here(_CANDIDATE), root.encode())
    durable.write(places.here(_DROP_IN), (target.drop_in or "").encode())
    try:
        after = containerd.dump(places.here(_CANDIDATE))
    finally:
        places.here(_CANDIDATE).unlink()
        places.here(_DROP_IN).unlink()
    judge(before, after, release)
    return after


def judge(before: Effective, after: Effective, release: Release) -> None:
    """Rules 2 to 4. Raises Permanent(NODE_CONTAINERD)."""
    lost = sorted(set(before.handlers) - set(after.handlers) - {HANDLER})
    if lost:
        raise _refused(
            "runtime handlers would be lost", ", ".join(sorted(before.handlers)), f"without {', '.join(lost)}"
        )
    if after.default_handler != before.default_handler:
        raise _refused("the default runtime would be another", before.default_handler, after.default_handler or "none")
    ours = after.handlers.get(HANDLER)
    if ours is None or ours.get("runtime_type") != RUNTIME_TYPE:
        raise _refused("our runtime handler would not be there", f"{HANDLER} = {RUNTIME_TYPE}", str(ours))
    if release.snapshotter_of_a_handler and ours.get("snapshotter") != SNAPSHOTTER:
        raise _refused("our handler would not use our snapshotter", SNAPSHOTTER, str(ours.get("snapshotter")))
    if not release.snapshotter_of_a_handler and _discards(after):
        raise _refused(
            "with another snapshotter, images that are here could not be unpacked again",
            "discard_unpacked_layers = false, or containerd 1.7, where the snapshotter is the handler's alone",
            "discard_unpacked_layers = true",
        )
    proxies: Mapping[str, Any] = after.document.get("proxy_plugins") or {}
    if SNAPSHOTTER not in proxies:
        raise _refused("our snapshotter would not be there", f"proxy_plugins.{SNAPSHOTTER}", str(sorted(proxies)))
    now = after.leaves
    changed = [path for path, value in before.leaves.items() if not _ours(path) and value and now.get(path) != value]
    if changed:
        path = changed[0]
        raise _refused(
            f"containerd's {'.'.join(path)} would change, which is not ours to change",
            str(before.leaves[path]),
            str(now.get(path)),
        )


def _discards(effective: Effective) -> bool:
    return any(path[-1] == "discard_unpacked_layers" and value is True for path, value in effective.leaves.items())


def _ours(path: tuple[str, ...]) -> bool:
    return HANDLER in path or path[0] in {"imports", "version"} or path[-1] in _MEANT


def _refused(message: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.NODE_CONTAINERD,
        message,
        expected=expected,
        got=got,
        advice="nothing was changed; see docs/operations/node.md for what containerd's file may look like",
    )
