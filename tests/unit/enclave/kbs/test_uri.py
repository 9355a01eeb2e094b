"""Names of resources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.faults import Code, Permanent
from workers.enclave.kbs import ResourceUri


@pytest.mark.parametrize("uri", ["kbs:///default/image-key/redis", "kbs:///1.ok/2ok./3...", "kbs:///_/-/a"])
def test_a_name_is_read_and_written_the_same(uri):
    assert str(ResourceUri.parse(uri)) == uri


def test_a_name_has_its_place_at_the_broker():
    uri = ResourceUri.parse("kbs:///default/image-key/redis")
    assert (uri.repository, uri.type, uri.tag) == ("default", "image-key", "redis")
    assert uri.path == "/kbs/v0/resource/default/image-key/redis"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "kbs:///",
        "kbs:///a/b",
        "kbs:///a/b/c/d",
        "kbs:///a/b/c/",
        "kbs:///a//c",
        "kbs:///a/b/c?version=1",
        "kbs:///a/b/c#x",
        "kbs:///a/b/%63",
        "kbs:///a/../c",
        "kbs:///.a/b/c",
        "kbs:///a/b/c\n",
        "kbs:///a/b/ç",
        "kbs://host/a/b/c",
        "kbs://host:80/a/b/c",
        "kbs:////a/b/c",
        "kbs+pkcs11:///a/b/c",
        "KBS:///a/b/c",
        "https:///a/b/c",
        "a/b/c",
        " kbs:///a/b/c",
        f"kbs:///a/b/{'c' * 129}",
    ],
)
def test_what_is_no_name_is_refused(uri):
    with pytest.raises(Permanent) as fault:
        ResourceUri.parse(uri)
    assert fault.value.code == Code.INPUT
    assert fault.value.diagnosis.got.isascii()


@given(st.text() | st.text().map("kbs:///{}".format) | st.lists(st.text(), min_size=3, max_size=3).map("/".join))
def test_any_text_is_a_name_or_refused(text):
    try:
        uri = ResourceUri.parse(text)
    except Permanent as fault:
        assert fault.code == Code.INPUT  # noqa: PT017 - both ends are right
    else:
        assert str(uri) == text


def test_a_name_cannot_be_made_of_what_is_none():
    with pytest.raises(Permanent):
        ResourceUri("..", "b", "c")
