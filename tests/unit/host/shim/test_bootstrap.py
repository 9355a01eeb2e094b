"""Which version each containerd is answered, from the bytes that it sends."""

from __future__ import annotations

import json

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from schemas.containerd.bootstrap_pb2 import BootstrapParams, BootstrapResult, Extension
from workers.host.shim.arguments import Arguments, parse
from workers.host.shim.bootstrap import FIRST, SANDBOXED, answer, version_for

ADDRESS = "unix:///run/containerd/enclave-cc/0123456789abcdef0123456789abcdef"
LONGEST = f"unix:///{'r' * 60}/enclave-cc/0123456789abcdef0123456789abcdef"
OPTIONS = Any(type_url="containerd.runc.v1.Options", value=b"\x12\x04runc")


def started() -> Arguments:
    """As every containerd from 1.6 to 2.4 starts a shim; their environments are no different either."""
    flags = ("-namespace", "k8s.io", "-address", "/run/containerd/containerd.sock")
    return parse([*flags, "-publish-binary", "/usr/bin/containerd", "-id", "p0d", "start"])


def params(**changed: str) -> bytes:
    """Of containerd 2.3: pkg/shim/util.go, Command."""
    told = {"instance_id": "p0d", "namespace": "k8s.io", "containerd_version": "v2.3.4"} | changed
    return BootstrapParams(
        **told,  # type: ignore[arg-type]
        log_level=-4,
        containerd_grpc_address="/run/containerd/containerd.sock",
        containerd_ttrpc_address="/run/containerd/containerd.sock.ttrpc",
        containerd_binary="/usr/bin/containerd",
        extensions=[Extension(value=OPTIONS)],
        socket_dir="/run/containerd/s",
    ).SerializeToString()


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("1.6.20~ds1", FIRST),
        ("1.7.24~ds1", FIRST),
        ("v1.7.34", FIRST),
        ("v2.0.0", SANDBOXED),
        ("2.1.9+unknown", SANDBOXED),
        ("v2.2.0-rc.1", SANDBOXED),
        ("10.0", SANDBOXED),
        ("", FIRST),
        ("unknown", FIRST),
        ("2", FIRST),
        ("³.1", FIRST),
    ],
)
@pytest.mark.parametrize("given", [b"", OPTIONS.SerializeToString()], ids=["nothing given", "options given"])
def test_before_2_3_the_daemons_own_version_decides(told: str, version: int, given: bytes) -> None:
    asked: list[str] = []

    def ask(address: str) -> str:
        asked.append(address)
        return told

    assert version_for(started(), given, ask) == version
    assert asked == ["/run/containerd/containerd.sock"]


@pytest.mark.parametrize("version", ["v2.3.0", "2.4.0-beta.0+unknown", ""])
def test_bootstrap_parameters_of_this_start_are_enough_and_nobody_is_asked(version: str) -> None:
    def ask(_: str) -> str:
        raise AssertionError("asked")

    assert version_for(started(), params(containerd_version=version), ask) == SANDBOXED


@pytest.mark.parametrize(
    "given",
    [
        params(instance_id="other"),
        params(namespace="moby"),
        Any(type_url="p0d", value=b"moby").SerializeToString(),
        params()[:-1],
        b"\x0a",
        b"\xff" * 11,
        b"\x0b\x0c",
        b"\x0d\x00",
        b"\x0a\x7fp0d",
    ],
    ids=["another's", "elsewhere", "options", "cut off", "no length", "no end", "group", "short number", "short text"],
)
def test_what_is_not_this_starts_parameters_decides_nothing(given: bytes) -> None:
    assert version_for(started(), given, lambda _: "1.7.24") == FIRST


def test_parameters_with_fields_that_are_not_known_yet_are_parameters() -> None:
    later = params() + b"\x81\x02" + bytes(8) + b"\x85\x02" + bytes(4) + b"\x80\x02\x01"
    assert version_for(started(), later, lambda _: "1.7.24") == SANDBOXED


@pytest.mark.parametrize("address", [ADDRESS, LONGEST], ids=["usual", "longest"])
def test_the_answers_are_what_each_containerd_parses(address: str) -> None:
    assert answer(address, FIRST) == address.encode()
    assert json.loads(answer(address, SANDBOXED)) == {"version": 3, "address": address, "protocol": "ttrpc"}
    for version in (FIRST, SANDBOXED):  # from 2.3 a BootstrapResult is looked for first
        with pytest.raises(DecodeError):
            BootstrapResult.FromString(answer(address, version))


@pytest.mark.parametrize("odd", ['"', "\\", "\n", "\x7f"], ids=["quote", "backslash", "newline", "delete"])
def test_an_address_that_json_would_escape_is_told_alone(odd: str) -> None:
    assert answer(ADDRESS + odd, SANDBOXED) == (ADDRESS + odd).encode()
