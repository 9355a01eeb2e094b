"""For every input: a parser of strangers' bytes gives a value or a fault of its own, and one value has one spelling."""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import io
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.faults import Code, Permanent
from tests.simulators import oci
from workers.enclave.image.gunzip import Gunzip, NotGzipError
from workers.enclave.image.layers import open_layer
from workers.enclave.image.manifest import Descriptor, parse_config, parse_manifest
from workers.enclave.image.ocicrypt import unwrap_layer_key
from workers.enclave.image.policy import ImagePolicy
from workers.enclave.image.reference import Reference, parse_reference
from workers.enclave.launch_policy.document import LaunchPolicy
from workers.enclave.launch_policy.proposal import is_plain_path, parse_proposal

PART = st.from_regex(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*", fullmatch=True).filter(lambda part: len(part) < 40)
HOST = st.from_regex(
    r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,6}(:[0-9]{1,5})?|localhost(:[0-9]{1,5})?", fullmatch=True
)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True)
DIGEST = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
PLAIN = oci.image([oci.tar({"a": b"a"})])


def mutated(document: object, path: list[int], value: object) -> object:
    """The document with one value somewhere replaced: near misses, which random JSON never makes."""
    if not path or not isinstance(document, dict | list) or not document:
        return value
    if isinstance(document, list):
        place = path[0] % len(document)
        return [mutated(item, path[1:], value) if at == place else item for at, item in enumerate(document)]
    name = sorted(document)[path[0] % len(document)]
    return {key: mutated(item, path[1:], value) if key == name else item for key, item in document.items()}


def value_or_fault(parse: Callable[[], object], *codes: Code) -> None:
    """Either is right; any other exception, or a fault of another code, is a defect."""
    with contextlib.suppress(Permanent):
        try:
            parse()
        except Permanent as fault:
            if fault.code in codes:
                raise
            raise AssertionError(fault.diagnostics()) from fault


PATHS = st.lists(st.integers(0, 7), max_size=5)


@given(
    HOST.filter(lambda host: len(host) < 80),
    st.lists(PART, min_size=1, max_size=4),
    TAG | st.none(),
    DIGEST | st.none(),
)
def test_a_reference_that_is_well_formed_survives_its_own_spelling(host, parts, tag, digest) -> None:
    text = f"{host}/{'/'.join(parts)}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    found = parse_reference(text)
    assert found == Reference(found.host, found.path, None if digest else tag or "latest", digest)
    assert parse_reference(str(found)) == found


@given(st.text(max_size=80) | st.text("abAB/:@.-_0\n ", max_size=40))
def test_any_text_is_a_reference_that_means_itself_or_a_fault(text) -> None:
    def checked() -> None:
        found = parse_reference(text)
        assert parse_reference(str(found)) == found
        assert ".." not in found.path.split("/")

    value_or_fault(checked, Code.IMAGE_REFERENCE)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_a_fault_of_their_own(raw) -> None:
    for parse, code in (
        (parse_manifest, Code.IMAGE_MALFORMED),
        (parse_config, Code.IMAGE_MALFORMED),
        (ImagePolicy.parse, Code.SIGNATURE_POLICY),
        (LaunchPolicy.parse, Code.CONFIG_POLICY),
    ):
        value_or_fault(functools.partial(parse, raw), code)


@given(PATHS, JSON)
def test_a_manifest_with_one_value_replaced_is_read_or_malformed(path, value) -> None:
    value_or_fault(
        lambda: parse_manifest(json.dumps(mutated(PLAIN.document, path, value)).encode()), Code.IMAGE_MALFORMED
    )


@given(PATHS, JSON)
def test_a_configuration_with_one_value_replaced_is_read_or_malformed(path, value) -> None:
    config = json.loads(PLAIN.blobs[PLAIN.document["config"]["digest"]])
    config["config"] |= {"Cmd": ["a"], "User": "0", "ExposedPorts": {"80/tcp": {}}, "WorkingDir": "/"}
    raw = json.dumps(mutated(config, path, value)).encode()
    value_or_fault(lambda: parse_config(raw), Code.IMAGE_MALFORMED)


@given(PATHS, JSON)
def test_an_image_policy_with_one_value_replaced_is_read_or_refused_as_a_policy(path, value) -> None:
    document = {
        "default": [{"type": "reject"}],
        "transports": {
            "docker": {
                "r.example/app": [
                    {
                        "type": "sigstoreSigned",
                        "keyPath": "kbs:///a/b/c",
                        "signedIdentity": {"type": "exactRepository", "dockerRepository": "r.example/app"},
                    }
                ]
            }
        },
        "enclave-cc": {"unencrypted": ["r.example"], "limits": {"layers": 3, "layer_bytes": 5, "image_bytes": 7}},
    }
    value_or_fault(
        lambda: ImagePolicy.parse(json.dumps(mutated(document, path, value)).encode()),
        Code.SIGNATURE_POLICY,
        Code.IMAGE_REFERENCE,
    )


@given(PATHS, JSON)
def test_a_launch_policy_with_one_value_replaced_is_read_or_refused_as_a_policy(path, value) -> None:
    document = {
        "version": 1,
        "boot_measurements": ["ab" * 32],
        "rules": [
            {
                "name": "web",
                "image": "r.example/app",
                "args": ["/app", {"pattern": "[a-z]+"}, {"repeat": {"any": True}}],
                "env": [{"name": "A", "value": {"pattern": ".*"}}],
                "cwd": ["/"],
                "users": ["0:0"],
                "additional_gids": [1],
                "capabilities": ["CAP_CHOWN"],
                "rlimits": ["RLIMIT_NOFILE"],
                "mounts": [{"destination": "/data", "read_only": True}],
                "hostname": "web",
                "terminal": True,
            }
        ],
        "secrets": [{"image": "r.example/app", "uri": "kbs:///a/b/c", "path": "/run/x", "mode": "0400"}],
    }
    value_or_fault(
        lambda: LaunchPolicy.parse(json.dumps(mutated(document, path, value)).encode()),
        Code.CONFIG_POLICY,
        Code.IMAGE_REFERENCE,
    )


@given(PATHS, JSON)
def test_a_proposal_with_one_value_replaced_is_read_or_denied(path, value) -> None:
    document = {
        "process": {
            "user": {"uid": 0, "gid": 0, "additionalGids": [1]},
            "args": ["/app"],
            "env": ["A=1"],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_CHOWN"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
            "terminal": False,
        },
        "root": {"readonly": True},
        "hostname": "h",
        "mounts": [{"destination": "/data", "type": "bind", "source": "/x", "options": ["rbind", "ro"]}],
        "linux": {"devices": [{"path": "/dev/null"}]},
    }
    changed = mutated(document, path, value)
    if not isinstance(changed, dict):
        return
    value_or_fault(lambda: parse_proposal(changed), Code.CONFIG_PROCESS_DENIED)


@given(PATHS, JSON, st.sampled_from([oci.PUBOPTS, oci.KEYS]))
def test_a_layer_annotation_with_one_value_replaced_opens_or_is_refused(path, value, which) -> None:
    kek = bytes(range(32))
    ciphertext, annotations = oci.encrypted_layer(b"body", kek, "kbs:///a/b/c")
    document = json.loads(base64.b64decode(annotations[which]))
    annotations[which] = oci.b64(json.dumps(mutated(document, path, value)).encode())
    descriptor = Descriptor(oci.TAR + "+encrypted", oci.digest(ciphertext), len(ciphertext), annotations)
    value_or_fault(lambda: unwrap_layer_key(descriptor, lambda _: kek), Code.IMAGE_MALFORMED, Code.KEY_WRONG)


@given(st.binary(min_size=1, max_size=3000), st.data())
def test_no_changed_byte_of_an_encrypted_layer_passes(tar, data) -> None:
    blob = gzip.compress(tar)
    ciphertext, annotations = oci.encrypted_layer(blob, bytes(32), "kbs:///a/b/c")
    descriptor = Descriptor(oci.TAR + "+gzip+encrypted", oci.digest(ciphertext), len(ciphertext), annotations)
    key = unwrap_layer_key(descriptor, lambda _: bytes(32))

    def read(served: bytes) -> bytes:
        with open_layer(io.BytesIO(served), descriptor, diff_id=oci.digest(tar), key=key, most_bytes=1 << 20) as reader:
            body = reader.read()
            reader.verify()
            return body

    assert read(ciphertext) == tar
    place = data.draw(st.integers(0, len(ciphertext) - 1))
    flipped = bytearray(ciphertext)
    flipped[place] ^= data.draw(st.integers(1, 255))
    cut = ciphertext[: data.draw(st.integers(0, len(ciphertext) - 1))]
    for wrong in (bytes(flipped), cut, ciphertext + b"x"):
        with pytest.raises(Permanent) as refused:
            read(wrong)
        assert refused.value.code in {Code.IMAGE_ALTERED, Code.IMAGE_TRUNCATED}


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4), st.integers(1, 700))
@settings(max_examples=50)
def test_gzip_members_in_any_chunks_give_what_was_compressed(members, chunk) -> None:
    blob = b"".join(gzip.compress(member) for member in members)
    gunzip, out, left = Gunzip(), [], blob
    while True:
        piece = gunzip.pending
        if not piece:
            piece, left = left[:chunk], left[chunk:]
        plain = gunzip.feed(piece)
        out.append(plain)
        if not plain and not piece:
            break
    assert b"".join(out) == b"".join(members)


@given(st.binary(max_size=500))
def test_any_bytes_are_gzip_or_a_fault(raw) -> None:
    gunzip, piece = Gunzip(), raw
    try:
        for _ in range(1000):
            plain = gunzip.feed(piece)
            if not plain and not piece:
                return
            piece = gunzip.pending
    except NotGzipError:
        return
    raise AssertionError("it never ends")


@given(st.text("/.ab\0", max_size=12))
def test_a_plain_path_cannot_climb(path) -> None:
    if is_plain_path(path):
        assert path.startswith("/")
        assert not {"", ".", ".."}.intersection(path.split("/")[1:])
