from __future__ import annotations

import json
import subprocess
import sys

import pytest

from schemas.containerd.introspection_pb2 import RuntimeInfo
from workers.host.shim.arguments import Arguments, parse

MAIN = "from workers.host.shim.main import main; main()"


def said(given: Arguments) -> tuple[str, str, str, str, str, bool]:
    return given.action, given.namespace, given.id, given.address, given.bundle, given.version


def test_the_command_line_of_containerd_1_6_start_is_understood() -> None:
    line = (
        "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id abc start"
    )
    assert said(parse(line.split())) == ("start", "k8s.io", "abc", "/run/containerd/containerd.sock", "", False)


def test_delete_names_its_bundle_and_flags_may_use_equals_or_two_dashes() -> None:
    line = "-namespace=k8s.io --address=/c.sock -debug -id abc -bundle /b delete"
    assert said(parse(line.split())) == ("delete", "k8s.io", "abc", "/c.sock", "/b", False)


def test_the_version_may_be_asked_alone() -> None:
    assert parse(["-v"]).version
    assert not parse(["-v"]).info


def test_containerd_2_asks_what_the_runtime_can() -> None:
    shown = subprocess.run([sys.executable, "-c", MAIN, "-info"], input=b"", capture_output=True, check=True)
    assert shown.stderr == b""
    told = RuntimeInfo.FromString(shown.stdout)
    assert (told.name, bool(told.version.version)) == ("io.containerd.enclave-cc.v2", True)
    assert told.features.type_url == "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
    assert json.loads(told.features.value)["ociVersionMin"] == "1.0.0"


@pytest.mark.parametrize("line", ["-id", "-colour red start", "-id a stop", "start now", "serve"])
def test_what_containerd_never_says_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        parse(line.split())
