"""An image's name: normalised as containerd does it, refused otherwise."""

from __future__ import annotations

import pytest

from orchestrator.faults import Code, Permanent
from workers.enclave.image.reference import parse_name, parse_reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("redis", "docker.io/library/redis:latest"),
        ("redis:7", "docker.io/library/redis:7"),
        ("bitnami/redis", "docker.io/bitnami/redis:latest"),
        ("index.docker.io/redis", "docker.io/library/redis:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"),
        ("[::1]:5000/app:v1", "[::1]:5000/app:v1"),
        ("registry.example/app@" + DIGEST, "registry.example/app@" + DIGEST),
        ("registry.example/app:v1@" + DIGEST, "registry.example/app@" + DIGEST),
        ("Registry/app", "Registry/app:latest"),
        ("a__b/c---d.e_f", "docker.io/a__b/c---d.e_f:latest"),
    ],
)
def test_a_name_is_normalised_as_containerd_does_it(written: str, normal: str) -> None:
    assert str(parse_reference(written)) == normal
    assert str(parse_reference(normal)) == normal


@pytest.mark.parametrize(
    "written",
    [
        "",
        "/",
        "app:",
        "app@",
        "app@sha256:abc",
        "app@" + DIGEST.upper(),
        "app@sha512:" + "ab" * 64,
        "App",
        "a/B",
        "host.example/",
        "host.example//app",
        "a___b",
        "-a",
        "a-",
        "a..b",
        "../etc/passwd",
        "registry.example/../app",
        "app:v 1",
        "app:" + "v" * 129,
        "app\n",
        "app:v1\n",
        "https://registry.example/app",
        "user@registry.example/app",
        "registry.example:port/app",
        "registry.example:123456/app",
        "ab" * 32,
        "x" * 300,
        "регистр/app",
        "registry.example/app:v१",
    ],
)
def test_what_is_no_name_is_refused(written: str) -> None:
    with pytest.raises(Permanent) as refused:
        parse_reference(written)
    assert refused.value.code is Code.IMAGE_REFERENCE


def test_docker_hub_is_reached_under_its_other_name() -> None:
    assert parse_reference("redis").registry == "registry-1.docker.io"
    assert parse_reference("registry.example/redis").registry == "registry.example"


def test_a_bare_name_in_a_policy_gets_no_tag() -> None:
    assert str(parse_name("registry.example/app")) == "registry.example/app"
