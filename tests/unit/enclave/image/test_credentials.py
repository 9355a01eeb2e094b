"""Which account of a docker authentication document is for an image."""

from __future__ import annotations

import base64
import json

import pytest

from orchestrator.faults import Code, Permanent
from workers.enclave.image.credentials import Credentials, find_credentials
from workers.enclave.image.reference import parse_reference


def document(**auths: str) -> bytes:
    entries = {key: {"auth": base64.b64encode(pair.encode()).decode()} for key, pair in auths.items()}
    return json.dumps({"auths": entries, "credsStore": "desktop"}).encode()


def account(reference: str, **auths: str) -> str | None:
    found = find_credentials(document(**auths), parse_reference(reference))
    return found.username if found else None


def test_the_longest_matching_path_wins() -> None:
    auths = {"r.example": "host:x", "r.example/shop": "shop:x", "r.example/shop/app": "app:x"}
    assert account("r.example/shop/app:v1", **auths) == "app"
    assert account("r.example/shop/other:v1", **auths) == "shop"
    assert account("r.example/else:v1", **auths) == "host"
    assert account("other.example/else:v1", **auths) is None


def test_a_path_ends_at_a_slash() -> None:
    assert account("r.example/shopping/app:v1", **{"r.example/shop": "shop:x"}) is None
    assert account("r.example.evil/app:v1", **{"r.example": "host:x"}) is None


def test_docker_login_wrote_the_hub_as_a_url() -> None:
    assert account("redis", **{"https://index.docker.io/v1/": "hub:x"}) == "hub"


def test_a_password_may_hold_colons() -> None:
    found = find_credentials(document(**{"r.example": "u:a:b:c"}), parse_reference("r.example/app"))
    assert found == Credentials("r.example", "u", "a:b:c")
    assert "a:b:c" not in repr(found)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"auths":[]}',
        b'{"auths":{"r.example":{"auth":"no base64!"}}}',
        b'{"auths":{"r.example":{"auth":"dXNlcg=="}}}',
    ],
)
def test_what_is_no_such_document_is_refused_without_telling_it(raw: bytes) -> None:
    with pytest.raises(Permanent) as refused:
        find_credentials(raw, parse_reference("r.example/app"))
    assert refused.value.code is Code.INPUT
    assert "dXNlcg" not in refused.value.diagnostics()
    assert "no base64!" not in refused.value.diagnostics()


def test_an_entry_without_an_account_is_none() -> None:
    assert find_credentials(b'{"auths":{"r.example":{}}}', parse_reference("r.example/app")) is None
    assert find_credentials(b"{}", parse_reference("r.example/app")) is None
