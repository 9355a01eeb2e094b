"""An administrator's file with our change in it, and without it again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.node import toml_edit
from deploy.node.places import Places
from deploy.node.settings import Release, wanted
from tests.simulators.machine_room import CONFIG_1

CRI = 'plugins."io.containerd.grpc.v1.cri"'
OURS = wanted(2, Release(1, 6), Places(Path("/")), "/run/s.sock")
FORMS = {
    "as usual": CONFIG_1,
    "nothing": "",
    "no line's end": "version = 2",
    "dotted": f"version = 2\n{CRI}.containerd.snapshotter = 'native' # mine\n",
    "in one line": f'version = 2\n[{CRI}]\ncontainerd = {{ snapshotter = "native" }} # mine\n',
    "apart": f"version = 2\n[{CRI}.containerd.runtimes.runc]\na = 1\n[x]\ny = 1.0\n[{CRI}.cni]\nb = 1\n",
    "a head that is none": f'version = 2\nnote = """\n[{CRI}.containerd]\n"""\n',
    "carriage returns": f'version = 2\r\n[{CRI}.containerd]\r\n  snapshotter = "overlayfs"\r\n',
}
LINES = st.sampled_from(
    ["# mine", "", "[timeouts]", '[metrics]\naddress = "1.0"', "  # more", "[debug]\nlevel = 'info'"]
)


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_every_form_says_what_is_wanted_and_comes_back(text: str) -> None:
    changed, edit = toml_edit.add(text, OURS)
    containerd = tomllib.loads(changed)["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]
    assert containerd["snapshotter"] == "enclave-cc"
    assert containerd["disable_snapshot_annotations"] is False
    assert containerd["runtimes"]["enclave-cc"]["runtime_type"] == "io.containerd.enclave-cc.v2"
    assert tomllib.loads(toml_edit.strip(changed, edit)) == tomllib.loads(text)
    for comment in ("# mine", "# as everywhere", "# do not move"):
        assert changed.count(comment) == text.count(comment)


@given(before=st.lists(LINES, unique=True, max_size=3), after=st.lists(LINES, unique=True, max_size=3))
def test_what_is_written_around_ours_stays_to_the_byte(before: list[str], after: list[str]) -> None:
    own = "".join(f"{line}\n" for line in before)
    mine = "".join(f"{line}\n" for line in after if line not in before or not line.startswith("["))
    base = CONFIG_1.replace("[metrics]\n  grpc_histogram = false\n  ratio = 1.0\n", "") + own
    changed, edit = toml_edit.add(base, OURS)
    assert toml_edit.strip(changed + mine, edit) == base + mine


def test_a_value_that_somebody_changed_after_us_is_theirs() -> None:
    changed, edit = toml_edit.add(CONFIG_1, OURS)
    theirs = changed.replace('snapshotter = "enclave-cc" # as', 'snapshotter = "zfs" # as')
    assert toml_edit.strip(theirs, edit) == CONFIG_1.replace('"overlayfs"', '"zfs"')


def test_what_was_added_to_a_table_of_ours_goes_with_it() -> None:
    changed, edit = toml_edit.add(CONFIG_1, OURS)
    head = f"[{CRI}.containerd.runtimes.enclave-cc]\n"
    theirs = changed.replace(head, f"{head}privileged_without_host_devices = true\n")
    assert tomllib.loads(toml_edit.strip(theirs, edit)) == tomllib.loads(CONFIG_1)
