from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import permutations

import pytest

from orchestrator.faults import Code, Permanent
from tests.unit.enclave.rootfs.layers import DIRECTORY, LINK, SYMLINK, Item, archive
from workers.enclave.rootfs.tar import TarReader
from workers.enclave.rootfs.tree import Directory, Extent, LayeredTree, Node, RegularFile, Symlink


def merged(*layers: Sequence[Item]) -> LayeredTree:
    tree = LayeredTree()
    for layer in layers:
        tree.begin_layer()
        for entry in TarReader(io.BytesIO(archive(*layer))):
            tree.apply(entry, Extent(1, entry.size))
    return tree


def names(directory: Directory, above: bytes = b"") -> dict[bytes, Node]:
    found: dict[bytes, Node] = {}
    for name, node in directory.children.items():
        found[above + name] = node
        if isinstance(node, Directory):
            found.update(names(node, above + name + b"/"))
    return found


def paths(*layers: Sequence[Item]) -> set[bytes]:
    return set(names(merged(*layers).root))


def folder(name: bytes, mode: int = 0o755) -> Item:
    return Item(name, DIRECTORY, mode=mode)


def refused(*layers: Sequence[Item]) -> str:
    with pytest.raises(Permanent) as refusal:
        merged(*layers)
    assert refusal.value.code is Code.IMAGE_MALFORMED
    return str(refusal.value)


def test_a_whiteout_removes_what_lower_layers_put_there_with_all_below() -> None:
    lower = [folder(b"a"), Item(b"a/x"), folder(b"a/d"), Item(b"a/d/deep"), Item(b"keep")]
    assert paths(lower, [Item(b"a/.wh.x")]) == {b"a", b"a/d", b"a/d/deep", b"keep"}
    assert paths(lower, [Item(b".wh.a")]) == {b"keep"}
    assert paths(lower, [Item(b".wh.nothing")]) == paths(lower)


def test_a_whiteout_never_touches_its_own_layer_whatever_the_order() -> None:
    lower = [folder(b"d", 0o700), Item(b"d/old"), folder(b"d/sub", 0o700), Item(b"d/sub/old"), Item(b"f", content=b"o")]
    upper = [Item(b".wh.d"), Item(b"d/new"), Item(b"d/sub/new"), Item(b".wh.f"), Item(b"f", content=b"new")]
    for order in permutations(upper):
        tree = merged(lower, order)
        found = names(tree.root)
        assert set(found) == {b"d", b"d/new", b"d/sub", b"d/sub/new", b"f"}
        # Nor does anything of a hidden directory shine through: its attributes are gone too.
        assert found[b"d"].attributes.permissions == 0o755
        assert found[b"d/sub"].attributes.permissions == 0o755
        file = found[b"f"]
        assert isinstance(file, RegularFile)
        assert file.extent.size == 3


def test_an_opaque_directory_is_emptied_of_lower_layers_only_whatever_the_order() -> None:
    lower = [folder(b"d", 0o700), Item(b"d/old"), folder(b"d/sub", 0o700), Item(b"d/sub/old"), Item(b"beside")]
    upper = [Item(b"d/.wh..wh..opq"), Item(b"d/new"), folder(b"d/sub", 0o711), Item(b"d/sub/new")]
    for order in permutations(upper):
        found = names(merged(lower, order).root)
        assert set(found) == {b"d", b"d/new", b"d/sub", b"d/sub/new", b"beside"}
        assert found[b"d"].attributes.permissions == 0o700
        assert found[b"d/sub"].attributes.permissions == 0o711


def test_an_opaque_root_hides_all_lower_layers() -> None:
    assert paths([Item(b"a"), Item(b"b/c")], [Item(b"n"), Item(b".wh..wh..opq")]) == {b"n"}


def test_a_later_layer_sees_earlier_ones_as_lower() -> None:
    assert paths([Item(b"a")], [Item(b"b")], [Item(b".wh.a"), Item(b".wh.b")]) == set()


def test_a_directory_over_a_directory_keeps_the_children_and_takes_the_attributes() -> None:
    found = names(merged([folder(b"d", 0o700), Item(b"d/x")], [folder(b"d", 0o1777)]).root)
    assert set(found) == {b"d", b"d/x"}
    assert found[b"d"].attributes.permissions == 0o1777


def test_anything_else_replaces_what_stood_there() -> None:
    assert paths([folder(b"d"), Item(b"d/x")], [Item(b"d")]) == {b"d"}
    assert paths([Item(b"d")], [folder(b"d"), Item(b"d/x")]) == {b"d", b"d/x"}
    link = [Item(b"l", SYMLINK, link=b"d"), folder(b"d"), Item(b"d/x")]
    found = names(merged(link, [folder(b"l")]).root)
    assert isinstance(found[b"l"], Directory)
    assert set(found) == {b"l", b"d", b"d/x"}


def test_parents_are_found_through_symbolic_links_but_never_out_of_the_root() -> None:
    lower = [folder(b"usr/lib"), Item(b"lib", SYMLINK, link=b"/usr/lib"), Item(b"up", SYMLINK, link=b"../../../usr")]
    assert paths(lower, [Item(b"lib/x"), Item(b"up/y")]) == {b"usr", b"usr/lib", b"usr/lib/x", b"usr/y", b"lib", b"up"}
    assert paths(lower, [Item(b"lib/x")], [Item(b"lib/.wh.x")]) == paths(lower)


def test_a_dangling_link_to_a_directory_is_made_good() -> None:
    found = names(merged([Item(b"l", SYMLINK, link=b"new/place"), Item(b"l/x")]).root)
    assert set(found) == {b"l", b"new", b"new/place", b"new/place/x"}


def test_missing_parents_are_made_with_fixed_attributes() -> None:
    made = names(merged([Item(b"a/b/c", mode=0o600, mtime="77")]).root)[b"a/b"].attributes
    assert (made.permissions, made.uid, made.gid, made.mtime_ns) == (0o755, 0, 0, 0)


def test_hard_links_share_one_inode_also_with_a_lower_layer() -> None:
    found = names(merged([Item(b"a"), Item(b"b", LINK, link=b"/a")], [Item(b"c", LINK, link=b"b")]).root)
    assert found[b"a"] is found[b"b"]
    assert found[b"b"] is found[b"c"]


def test_a_hard_link_survives_the_removal_of_its_first_name() -> None:
    assert paths([Item(b"a"), Item(b"b", LINK, link=b"a")], [Item(b".wh.a")]) == {b"b"}


def test_a_hard_link_to_a_symbolic_link_links_the_link() -> None:
    found = names(merged([Item(b"s", SYMLINK, link=b"nowhere"), Item(b"h", LINK, link=b"s")]).root)
    assert isinstance(found[b"h"], Symlink)
    assert found[b"h"] is found[b"s"]


def test_a_replaced_file_leaves_its_other_names_alone() -> None:
    found = names(merged([Item(b"a", content=b"1"), Item(b"b", LINK, link=b"a"), Item(b"a", content=b"22")]).root)
    a, b = found[b"a"], found[b"b"]
    assert isinstance(a, RegularFile)
    assert isinstance(b, RegularFile)
    assert (a.extent.size, b.extent.size) == (2, 1)


def test_bookkeeping_of_aufs_is_left_out() -> None:
    assert paths([folder(b".wh..wh.plnk"), Item(b".wh..wh.plnk/1.2"), Item(b".wh..wh.aufs"), Item(b"a")]) == {b"a"}


@pytest.mark.parametrize(
    ("reason", "items"),
    [
        ("hides no name", [Item(b".wh.")]),
        ("hides no name", [Item(b".wh..")]),
        ("hides no name", [Item(b"d/.wh...")]),
        ("used as a directory", [Item(b".wh.d/x")]),
        ("not and cannot be a directory", [Item(b"f"), Item(b"f/x")]),
        ("not and cannot be a directory", [Item(b"s", SYMLINK, link=b"n" * 256), Item(b"s/x")]),
        ("not and cannot be a directory", [Item(b"f"), Item(b"s", SYMLINK, link=b"f/.."), Item(b"s/x")]),
        ("points to nothing", [Item(b"h", LINK, link=b"absent")]),
        ("points to nothing", [Item(b"h", LINK, link=b"a/b/c")]),
        ("points to nothing", [folder(b"d"), Item(b"h", LINK, link=b"d")]),
        ("points to nothing", [Item(b"h", LINK, link=b"/")]),
        ("points to nothing", [Item(b"f"), Item(b"h", LINK, link=b"f/x")]),
        ("round in symbolic links", [Item(b"a", SYMLINK, link=b"b"), Item(b"b", SYMLINK, link=b"a"), Item(b"a/x")]),
        ("root of a layer", [Item(b"./")]),
        ("root of a layer", [Item(b"/", SYMLINK, link=b"x")]),
    ],
)
def test_a_layer_that_cannot_be_applied_is_refused_for_that_reason(reason: str, items: list[Item]) -> None:
    # tarfile writes a file named "./" as it is told.
    assert reason in refused(items)


def test_a_hard_link_to_itself_changes_nothing() -> None:
    assert paths([Item(b"a"), Item(b"a", LINK, link=b"a")]) == {b"a"}
