from __future__ import annotations

import pytest

from workers.host.shim.arguments import Arguments, parse


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


@pytest.mark.parametrize("line", ["-id", "-colour red start", "-id a stop", "start now", "serve"])
def test_what_containerd_never_says_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        parse(line.split())
