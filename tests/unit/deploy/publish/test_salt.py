"""The layer of random bytes: in every image another one, and nothing of it in the root that comes out."""

from __future__ import annotations

import io
import json
import tarfile

from deploy.publish.salt import Salt
from workers.enclave.rootfs.tar import TarReader


def test_it_is_a_tar_that_says_nothing_of_any_file() -> None:
    salt = Salt.fresh()
    assert [entry.path for entry in TarReader(io.BytesIO(salt.tar))] == [()]
    with tarfile.open(fileobj=io.BytesIO(salt.tar)) as archive:
        (member,) = archive.getmembers()
    assert (member.isdir(), member.mode, member.uid, member.gid, member.mtime) == (True, 0o755, 0, 0, 0)


def test_no_two_are_the_same_and_no_representation_shows_the_bytes() -> None:
    one, other = Salt.fresh(), Salt.fresh()
    assert one.descriptor().digest != other.descriptor().digest
    assert repr(one) == repr(other)


def test_a_configurations_history_goes_with_its_layers() -> None:
    """As many entries as layers, those aside that say they made none (config.md)."""
    salt = Salt.fresh()
    config = {
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]},
        "history": [{"created_by": "ADD Ä"}, {"created_by": "CMD", "empty_layer": True}],
    }
    salted = json.loads(salt.under(json.dumps(config).encode()))
    assert salted["rootfs"]["diff_ids"] == [salt.descriptor().digest, *config["rootfs"]["diff_ids"]]
    assert salted["history"][1:] == config["history"]
    assert "empty_layer" not in salted["history"][0]


def test_a_configuration_without_history_gets_none() -> None:
    assert "history" not in json.loads(Salt.fresh().under(b'{"rootfs": {"type": "layers", "diff_ids": []}}'))
