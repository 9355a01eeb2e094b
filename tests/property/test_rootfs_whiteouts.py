"""Merging against umoci, which unpacks layers one over the other as containerd does, by another hand."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.enclave.rootfs.layers import (
    DIRECTORY,
    REGULAR,
    SYMLINK,
    Item,
    Seen,
    archive,
    listing,
    mounted,
    write_image,
)
from workers.enclave.rootfs.tar import TarReader
from workers.enclave.rootfs.tree import Directory, Extent, LayeredTree, Node

Path3 = tuple[bytes, ...]
PATHS = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3).map(tuple)


@st.composite
def layers(draw: st.DrawFn) -> list[Item]:
    """One layer: each path once, every directory above a path described, whiteouts among them."""
    things: dict[Path3, bytes] = {}
    for path in draw(st.lists(PATHS, max_size=6, unique=True)):
        kind = draw(st.sampled_from([REGULAR, REGULAR, DIRECTORY, DIRECTORY, SYMLINK]))
        above = [path[:length] for length in range(1, len(path))]
        if all(things.get(parent, DIRECTORY) == DIRECTORY for parent in above) and things.get(path) is None:
            things.update(dict.fromkeys(above, DIRECTORY))
            things[path] = kind
    listed = [
        Item(
            b"/".join(path),
            kind,
            content=draw(st.binary(max_size=3)) if kind == REGULAR else b"",
            mode=draw(st.sampled_from([0o755, 0o700, 0o1711])) if kind != SYMLINK else 0o777,
            mtime=str(draw(st.integers(1, 10**9))),
            link=b"text" if kind == SYMLINK else b"",
        )
        for path, kind in sorted(things.items())
    ]
    directories = [b"", *(item.name + b"/" for item in listed if item.type == DIRECTORY)]
    for directory in draw(st.lists(st.sampled_from(directories), max_size=3, unique=True)):
        hidden = draw(st.sampled_from([b".wh.a", b".wh.b", b".wh.c", b".wh..wh..opq"]))
        listed.append(Item(directory + hidden))
    return listed


def tree_of(*listed: list[Item]) -> dict[bytes, object]:
    tree = LayeredTree()
    for layer in listed:
        tree.begin_layer()
        for entry in TarReader(io.BytesIO(archive(*layer))):
            tree.apply(entry, Extent(1, entry.size))
    return dict(flat(tree.root, b""))


def flat(node: Node, path: bytes) -> list[tuple[bytes, object]]:
    if not isinstance(node, Directory):
        return [(path, (type(node), node.attributes))]
    below = [pair for name, child in node.children.items() for pair in flat(child, path + b"/" + name)]
    return [(path, (Directory, node.attributes)), *below]


def parents_first(items: list[Item]) -> list[Item]:
    """The items in their order, but each after the directory it is in: every archive has that."""
    order: list[Item] = []
    waiting = list(items)
    while waiting:
        missing = {item.name for item in waiting if item.type == DIRECTORY}
        ready = next(item for item in waiting if item.name.rpartition(b"/")[0] not in missing)
        waiting.remove(ready)
        order.append(ready)
    return order


@given(st.lists(layers(), min_size=1, max_size=3), layers(), st.data())
@settings(max_examples=300)
def test_whiteouts_mean_the_same_wherever_they_stand_among_their_siblings(
    lower: list[list[Item]], upper: list[Item], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(upper))
    assert tree_of(*lower, parents_first(order)) == tree_of(*lower, upper)


@given(st.lists(layers(), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_merged_layers_are_what_umoci_unpacks(listed: list[list[Item]]) -> None:
    root = Item(b"./", DIRECTORY, mode=0o755, mtime="5")
    raw = [archive(root, *layer) for layer in listed]
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        unpacked = unpack(here, raw)
        with mounted(write_image(here / "image", *raw), here / "mounted") as merged:
            assert comparable(listing(merged)) == comparable(listing(unpacked))


def comparable(seen: dict[bytes, Seen]) -> dict[bytes, Seen]:
    """Without the times of directories, which umoci touches as it removes what is in them."""
    return {
        path: replace(entry, same=(), mtime_ns=0 if stat.S_ISDIR(entry.mode) else entry.mtime_ns)
        for path, entry in seen.items()
    }


def unpack(here: Path, raw: list[bytes]) -> Path:
    """An OCI image layout of the layers, unpacked by umoci."""
    blobs = here / "layout" / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    descriptors = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **blob(layer)} for layer in raw]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [descriptor["digest"] for descriptor in descriptors]},
    }
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(json.dumps(config).encode())},
        "layers": descriptors,
    }
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                **blob(json.dumps(manifest).encode()),
                "annotations": {"org.opencontainers.image.ref.name": "tag"},
            }
        ],
    }
    (here / "layout" / "index.json").write_text(json.dumps(index))
    (here / "layout" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    command = ["umoci", "raw", "unpack", "--image", f"{here / 'layout'}:tag", str(here / "unpacked")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HOME": str(here)})
    return here / "unpacked"
