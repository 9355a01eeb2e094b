from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.faults import Code, Permanent
from workers.host.snapshotter.layers import MAX_LAYERS, is_encrypted, parse_manifest, parse_user

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def manifest(*layers: tuple[str, str]) -> bytes:
    document = {"config": {"digest": C}, "layers": [{"mediaType": m, "digest": d} for m, d in layers]}
    return json.dumps(document).encode()


def test_a_layer_is_encrypted_by_its_media_type() -> None:
    assert is_encrypted("application/vnd.oci.image.layer.v1.tar+encrypted")
    assert is_encrypted("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")
    assert is_encrypted("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd+encrypted")
    assert not is_encrypted("application/vnd.oci.image.layer.v1.tar+gzip")
    assert not is_encrypted("application/vnd.docker.image.rootfs.diff.tar.gzip")


def test_a_manifest_says_which_of_its_layers_stay_remote() -> None:
    layers = parse_manifest(manifest(("tar", A), ("tar+encrypted", B)))
    assert (layers.config, layers.must_stay_remote(A), layers.must_stay_remote(B)) == (C, False, True)


def test_a_blob_named_as_plain_and_as_encrypted_is_encrypted() -> None:
    layers = parse_manifest(manifest(("tar", A), ("tar+encrypted", A)))
    assert layers.must_stay_remote(A)


def test_a_layer_of_another_image_is_refused() -> None:
    with pytest.raises(Permanent):
        parse_manifest(manifest(("tar", A))).must_stay_remote(B)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'{"layers": []}',
        b'{"config": {"digest": "sha256:ab"}, "layers": []}',
        json.dumps({"config": {"digest": C}, "layers": [{"digest": A}]}).encode(),
        json.dumps({"config": {"digest": C}, "layers": [{"mediaType": 7, "digest": A}]}).encode(),
        json.dumps({"config": {"digest": C}, "layers": [{"mediaType": "tar", "digest": A.upper()}]}).encode(),
        json.dumps({"config": {"digest": C}, "layers": [{"mediaType": "tar", "digest": "../../etc/passwd"}]}).encode(),
        manifest(*[("tar", A)] * (MAX_LAYERS + 1)),
    ],
)
def test_what_is_no_manifest_is_malformed(raw: bytes) -> None:
    with pytest.raises(Permanent) as refused:
        parse_manifest(raw)
    assert refused.value.code is Code.IMAGE_MALFORMED


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda j: json.dumps(j).encode())
)
def test_no_bytes_make_a_parser_fail_otherwise(raw: bytes) -> None:
    for parse in (parse_manifest, parse_user):
        with contextlib.suppress(Permanent):
            parse(raw)


def test_a_configuration_without_a_user_has_none() -> None:
    for text in ("{}", '{"config": null}', '{"config": {"User": null}}'):
        assert parse_user(text.encode()) == ""
    assert parse_user(b'{"config": {"User": "redis:cache"}}') == "redis:cache"
