"""Index, manifest and configuration: what is read, and what is refused before anything is built from it."""

from __future__ import annotations

import json

import pytest

from orchestrator.faults import Code, Permanent
from tests.simulators import oci
from workers.enclave.image.manifest import Index, Manifest, parse_config, parse_manifest

PLAIN = oci.image([oci.tar({"a": b"a"})])


def changed(**members: object) -> bytes:
    document = PLAIN.document | members
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def layer(**members: object) -> bytes:
    document = PLAIN.document
    document["layers"][0] |= members
    return json.dumps(document).encode()


def test_a_manifest_is_read() -> None:
    found = parse_manifest(PLAIN.manifest)
    assert isinstance(found, Manifest)
    assert found.layers[0].size == PLAIN.document["layers"][0]["size"]


def test_a_manifest_without_a_media_type_is_read_as_skopeo_writes_it() -> None:
    assert isinstance(parse_manifest(changed(mediaType=None)), Manifest)


def test_an_index_is_read() -> None:
    found = parse_manifest(oci.index({"amd64": PLAIN}).manifest)
    assert isinstance(found, Index)
    assert [(p.os, p.architecture) for p in found.platforms] == [("linux", "amd64")]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"{" * 100_000, id="deep"),
        pytest.param(b'{"a":' * 100_000, id="nested"),
        pytest.param(b"\xff\xfe{}", id="not-utf-8"),
        pytest.param(b" " * (5 << 20), id="too-long"),
        pytest.param(PLAIN.manifest.replace(b'"layers"', b'"config": {}, "layers"'), id="member-twice"),
        pytest.param(changed(schemaVersion=1), id="schema-1"),
        pytest.param(changed(schemaVersion=True), id="schema-true"),
        pytest.param(changed(manifests=[]), id="index-and-manifest"),
        pytest.param(changed(mediaType=oci.INDEX), id="manifest-called-index"),
        pytest.param(changed(mediaType="text/plain"), id="another-media-type"),
        pytest.param(changed(layers=None), id="no-layers"),
        pytest.param(changed(layers={}), id="layers-object"),
        pytest.param(changed(layers=[PLAIN.document["layers"][0]] * 513), id="too-many-layers"),
        pytest.param(changed(annotations={"a": 1}), id="annotation-number"),
        pytest.param(layer(digest="sha256:" + "A" * 64), id="upper-case-digest"),
        pytest.param(layer(digest="sha256:" + "a" * 64 + "\n"), id="digest-with-newline"),
        pytest.param(layer(digest="md5:" + "a" * 32), id="md5"),
        pytest.param(layer(size=-1), id="negative-size"),
        pytest.param(layer(size=1.5), id="fractional-size"),
        pytest.param(layer(size=True), id="size-true"),
        pytest.param(layer(size="12"), id="size-text"),
        pytest.param(layer(size=1 << 41), id="size-beyond-bounds"),
        pytest.param(layer(mediaType="a\nb/c"), id="media-type-newline"),
    ],
)
def test_a_malformed_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(Permanent) as refused:
        parse_manifest(raw)
    assert refused.value.code is Code.IMAGE_MALFORMED


def test_the_place_of_the_mistake_is_named() -> None:
    with pytest.raises(Permanent) as refused:
        parse_manifest(layer(size=-1))
    assert "$.layers[0].size" in refused.value.diagnosis.message


def config(process: object, **members: object) -> bytes:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]},
        "config": process,
    }
    return json.dumps(document | members).encode()


def test_a_configuration_is_read() -> None:
    found = parse_config(
        config(
            {
                "Env": ["A=1", "B=", "C=x=y"],
                "Entrypoint": ["/entry"],
                "Cmd": ["--flag", ""],
                "WorkingDir": "/work",
                "User": "redis:redis",
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "StopSignal": "SIGQUIT",
                "Labels": {"unknown": "members are passed over"},
            }
        )
    )
    assert found.env == ("A=1", "B=", "C=x=y")
    assert found.argv == ("/entry", "--flag", "")
    assert (found.working_dir, found.user, found.stop_signal) == ("/work", "redis:redis", "SIGQUIT")
    assert found.exposed_ports == ("53/udp", "80/tcp")


def test_docker_writes_null_for_nothing() -> None:
    found = parse_config(config({"Env": None, "Cmd": None, "Entrypoint": None, "ExposedPorts": None, "User": ""}))
    assert (found.env, found.argv, found.exposed_ports, found.user) == ((), (), (), "")
    assert parse_config(config(None)).argv == ()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(config({"Env": ["NOVALUE"]}), id="env-without-value"),
        pytest.param(config({"Env": ["=x"]}), id="env-without-name"),
        pytest.param(config({"Env": ["A=\0"]}), id="env-nul"),
        pytest.param(config({"Env": "A=1"}), id="env-text"),
        pytest.param(config({"Cmd": "sh -c"}), id="cmd-text"),
        pytest.param(config({"Cmd": ["a\0b"]}), id="cmd-nul"),
        pytest.param(config({"User": 0}), id="user-number"),
        pytest.param(config({"ExposedPorts": {"http": {}}}), id="port-name"),
        pytest.param(config({}, rootfs={"type": "none", "diff_ids": []}), id="rootfs-type"),
        pytest.param(config({}, rootfs={"type": "layers", "diff_ids": ["x"]}), id="diff-id"),
        pytest.param(config({}, rootfs=None), id="no-rootfs"),
        pytest.param(config({}, os=None), id="no-os"),
    ],
)
def test_a_malformed_configuration_is_refused(raw: bytes) -> None:
    with pytest.raises(Permanent) as refused:
        parse_config(raw)
    assert refused.value.code is Code.IMAGE_MALFORMED
