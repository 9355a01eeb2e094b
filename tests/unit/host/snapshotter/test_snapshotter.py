from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.faults import Code, Permanent, Temporary
from workers.host.snapshotter.layers import SNAPSHOT_REFERENCE
from workers.host.snapshotter.snapshot import AlreadyExists, Invalid, Kind, Mount, NotFound, Precondition
from workers.host.snapshotter.snapshotter import Snapshotter

PLAIN = "application/vnd.oci.image.layer.v1.tar+gzip"
ENCRYPTED = f"{PLAIN}+encrypted"
NAMESPACE = "k8s.io"


def labels(manifest: str, layer: str, chain: str) -> dict[str, str]:
    return {
        SNAPSHOT_REFERENCE: chain,
        "containerd.io/snapshot/cri.manifest-digest": manifest,
        "containerd.io/snapshot/cri.layer-digest": layer,
    }


def prepare(
    snapshotter: Snapshotter, key: str, parent: str = "", said: Mapping[str, str] | None = None
) -> tuple[Mount, ...]:
    return snapshotter.prepare(NAMESPACE, key, parent, said or {})


def layer(snapshotter: Snapshotter, name: str, parent: str = "", **files: str) -> None:
    """Unpack a layer as containerd does: prepare, write, commit."""
    mounts = prepare(snapshotter, f"extract {name}", parent)
    target = Path(mounts[0].source if mounts[0].type == "bind" else option(mounts[0], "upperdir"))
    for file, text in files.items():
        (target / file).write_text(text)
    snapshotter.commit(f"extract {name}", name, "", {})


def option(mount: Mount, name: str) -> str:
    return next(o.partition("=")[2] for o in mount.options if o.startswith(f"{name}="))


def pull(snapshotter: Snapshotter, content: Any, *media_types: str, user: str = "") -> list[str]:
    """What containerd's unpacker does with an image of such layers; the names of the layers that it had to fetch."""
    manifest, digests = content.image(*media_types, user=user)
    parent, fetched = "", []
    for number, digest in enumerate(digests):
        chain = f"chain {number} {user}"
        try:
            prepare(snapshotter, f"extract {chain}", parent, labels(manifest, digest, chain))
        except AlreadyExists:
            found = [s for s in snapshotter.list() if s.labels.get(SNAPSHOT_REFERENCE) == chain and s.parent == parent]
            parent = found[0].name
        else:
            fetched.append(digest)
            snapshotter.commit(f"extract {chain}", chain, "", {})
            parent = chain
    return fetched


# --- layers that stay remote


def test_no_layer_of_an_encrypted_image_is_fetched(snapshotter: Snapshotter, content: Any, root: Path) -> None:
    assert pull(snapshotter, content, ENCRYPTED, ENCRYPTED, ENCRYPTED) == []
    assert [(s.kind, s.remote) for s in snapshotter.list()] == [(Kind.COMMITTED, True)] * 3
    assert list((root / "snapshots").iterdir()) == []
    assert {namespace for namespace, _ in content.reads} == {NAMESPACE}


def test_plain_layers_below_are_fetched_and_everything_above_an_encrypted_one_is_not(
    snapshotter: Snapshotter, content: Any
) -> None:
    assert len(pull(snapshotter, content, PLAIN, PLAIN, ENCRYPTED, PLAIN)) == 2
    assert [s.remote for s in snapshotter.list()] == [False, False, True, True]


def test_a_second_pull_finds_the_remote_layers_of_the_first(snapshotter: Snapshotter, content: Any) -> None:
    for _ in range(2):
        assert pull(snapshotter, content, ENCRYPTED, ENCRYPTED) == []
    assert len(snapshotter.list()) == 2


def test_a_manifest_that_cannot_be_read_is_never_taken_for_a_plain_one(snapshotter: Snapshotter, content: Any) -> None:
    manifest, digests = content.image(PLAIN)
    for fault in (Temporary(Code.RUNTIME, "away"), Permanent(Code.IMAGE_ALTERED, "altered")):
        content.away = fault
        with pytest.raises(type(fault)):
            prepare(snapshotter, "extract", "", labels(manifest, digests[0], "chain"))
    assert snapshotter.list() == ()
    content.away = None
    with pytest.raises(Invalid):
        prepare(snapshotter, "extract", "", labels("../../manifest", digests[0], "chain"))


def test_a_client_that_says_nothing_of_an_image_unpacks_what_it_has(snapshotter: Snapshotter, content: Any) -> None:
    prepare(snapshotter, "extract", "", {SNAPSHOT_REFERENCE: "chain"})
    assert content.reads == []
    assert not snapshotter.stat("extract").remote


def test_a_container_of_an_encrypted_image_gets_an_empty_root_with_its_users_name(
    snapshotter: Snapshotter, content: Any
) -> None:
    pull(snapshotter, content, PLAIN, ENCRYPTED, user="redis:cache")
    top = snapshotter.list()[-1].name
    (mount,) = prepare(snapshotter, "container", top)
    assert mount.type == "bind"
    root = Path(mount.source)
    assert (root / "etc/passwd").read_text() == "redis:x:65534:65534::/:/sbin/nologin\n"
    assert (root / "etc/group").read_text() == "cache:x:65534:\n"
    assert sorted(p.name for p in root.rglob("*")) == ["etc", "group", "passwd"]
    (view,) = snapshotter.view("view", top, {})
    assert list(Path(view.source).iterdir()) == []


@pytest.mark.parametrize("user", ["0", "1000:1000", "", "evil\nroot:x:0:0", ":", "-x", "a" * 40, "../x"])
def test_what_is_no_name_gets_no_entry(snapshotter: Snapshotter, content: Any, user: str) -> None:
    pull(snapshotter, content, ENCRYPTED, user=user)
    (mount,) = prepare(snapshotter, "container", snapshotter.list()[-1].name)
    assert (Path(mount.source) / "etc/passwd").read_text() == ""


# --- ordinary snapshots


def test_mounts_are_those_of_containerds_own_overlayfs(snapshotter: Snapshotter, root: Path) -> None:
    (first,) = prepare(snapshotter, "one")
    assert first == Mount("bind", f"{root}/snapshots/1/fs", ("rbind", "rw"))
    snapshotter.commit("one", "layer 1", "", {})
    layer(snapshotter, "layer 2", "layer 1")
    (active,) = prepare(snapshotter, "container", "layer 2")
    assert (active.type, active.source) == ("overlay", "overlay")
    assert active.options == (
        "index=off",
        f"workdir={root}/snapshots/3/work",
        f"upperdir={root}/snapshots/3/fs",
        f"lowerdir={root}/snapshots/2/fs:{root}/snapshots/1/fs",
    )
    assert snapshotter.view("one layer", "layer 1", {}) == (Mount("bind", f"{root}/snapshots/1/fs", ("rbind", "ro")),)
    (view,) = snapshotter.view("two layers", "layer 2", {})
    assert view.options == ("index=off", f"lowerdir={root}/snapshots/2/fs:{root}/snapshots/1/fs")
    assert snapshotter.mounts("container") == (active,)


def test_a_layers_root_keeps_its_owner_in_what_is_built_on_it(snapshotter: Snapshotter, root: Path) -> None:
    (mount,) = prepare(snapshotter, "extract")
    os.chown(mount.source, 1000, 1001)
    snapshotter.commit("extract", "layer", "", {})
    prepare(snapshotter, "container", "layer")
    status = (root / "snapshots/2/fs").stat()
    assert (status.st_uid, status.st_gid) == (1000, 1001)


def test_usage_counts_blocks_and_inodes_once(snapshotter: Snapshotter) -> None:
    (mount,) = prepare(snapshotter, "extract")
    file = Path(mount.source) / "file"
    file.write_bytes(b"x" * 10_000)
    (Path(mount.source) / "name").hardlink_to(file)
    (Path(mount.source) / "loop").symlink_to(".")
    counted = snapshotter.usage("extract")
    assert counted.inodes == 3
    assert counted.size >= 12_288
    snapshotter.commit("extract", "layer", "", {})
    assert snapshotter.usage("layer") == counted


def test_names_are_unique_and_missing_ones_are_told(snapshotter: Snapshotter) -> None:
    layer(snapshotter, "layer")
    prepare(snapshotter, "active", "layer")
    with pytest.raises(AlreadyExists):
        prepare(snapshotter, "active", "layer")
    with pytest.raises(AlreadyExists):
        snapshotter.commit("active", "layer", "", {})
    for call in (snapshotter.stat, snapshotter.mounts, snapshotter.usage, snapshotter.remove):
        with pytest.raises(NotFound):
            call("missing")
    with pytest.raises(NotFound):
        prepare(snapshotter, "another", "missing")


def test_only_a_committed_snapshot_is_a_parent_and_only_an_active_one_is_committed(snapshotter: Snapshotter) -> None:
    prepare(snapshotter, "active")
    with pytest.raises(Invalid):
        prepare(snapshotter, "on active", "active")
    snapshotter.view("view", "", {})
    with pytest.raises(Precondition):
        snapshotter.commit("view", "layer", "", {})
    with pytest.raises(Invalid):
        snapshotter.commit("active", "layer", "somewhere else", {})
    snapshotter.commit("active", "layer", "", {})
    with pytest.raises(Invalid):
        snapshotter.mounts("layer")


def test_a_snapshot_with_children_stays_and_removal_takes_the_files(snapshotter: Snapshotter, root: Path) -> None:
    layer(snapshotter, "layer", file="x")
    prepare(snapshotter, "container", "layer")
    with pytest.raises(Precondition):
        snapshotter.remove("layer")
    snapshotter.remove("container")
    snapshotter.remove("layer")
    assert snapshotter.list() == ()
    assert list((root / "snapshots").iterdir()) == []


def test_a_number_is_never_used_again(snapshotter: Snapshotter) -> None:
    prepare(snapshotter, "one")
    first = snapshotter.stat("one").id
    snapshotter.remove("one")
    prepare(snapshotter, "one")
    assert snapshotter.stat("one").id > first


def test_labels_are_replaced_one_by_one_or_all_and_an_empty_value_removes(snapshotter: Snapshotter) -> None:
    prepare(snapshotter, "one", said={"a": "1", "b": "2"})
    assert snapshotter.update("one", {"a": "3", "c": "4"}, ["labels.a"]).labels == {"a": "3", "b": "2"}
    assert snapshotter.update("one", {"b": ""}, ["labels.b"]).labels == {"a": "3"}
    assert snapshotter.update("one", {"c": "4"}, []).labels == {"c": "4"}
    with pytest.raises(Invalid):
        snapshotter.update("one", {}, ["parent"])
    updated = snapshotter.stat("one")
    assert updated.updated_ns > updated.created_ns


def test_the_files_of_a_transaction_that_a_crash_undid_are_swept(
    snapshotter: Snapshotter, root: Path, content: Any
) -> None:
    layer(snapshotter, "layer", file="kept")
    (root / "snapshots/77/fs").mkdir(parents=True)
    (root / "snapshots/77/fs/file").write_text("left")
    snapshotter.cleanup()
    assert [p.name for p in (root / "snapshots").iterdir()] == ["1"]
    (root / "snapshots/78").mkdir()
    again = Snapshotter(root, content)
    assert [p.name for p in (root / "snapshots").iterdir()] == ["1"]
    again.close()
