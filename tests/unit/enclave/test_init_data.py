"""The owner's word to the agent: read as it stands, or refused."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.faults import Code, Permanent
from workers.enclave.init_data import MAX_BYTES, parse

INNER = """kbs_url = "https://127.0.0.1:8443"
kbs_ca = "-----BEGIN CERTIFICATE-----"
image_policy = "kbs:///default/security-policy/image"
launch_policy = "kbs:///default/launch-policy/default"
"""


def outer(inner: str = INNER, head: str = 'version = "0.1.0"\nalgorithm = "sha256"\n') -> str:
    return f"{head}[data]\n\"enclave-cc.toml\" = '''\n{inner}'''\n"


def refused(text: str | bytes) -> Permanent:
    with pytest.raises(Permanent) as raised:
        parse(text.encode() if isinstance(text, str) else text)
    assert raised.value.code is Code.AGENT_INIT_DATA
    assert raised.value.diagnosis.expected
    return raised.value


def test_what_the_owner_decided_is_read_and_kept_word_for_word() -> None:
    text = outer(INNER + 'registry_ca = "-----BEGIN"\n')
    data = parse(text.encode())
    assert (data.text, data.registry_ca) == (text, "-----BEGIN")
    assert (data.kbs_url, data.kbs_ca) == ("https://127.0.0.1:8443", "-----BEGIN CERTIFICATE-----")
    assert data.image_policy == "kbs:///default/security-policy/image"
    assert data.launch_policy == "kbs:///default/launch-policy/default"
    assert parse(outer().encode()).registry_ca == ""


@pytest.mark.parametrize("end", ["", "\n", "# a comment\n", "\r\n"])
def test_the_configid_is_the_digest_of_every_byte(end: str) -> None:
    raw = (outer() + end).encode()
    config_id = parse(raw).config_id
    assert config_id == hashlib.sha256(raw).digest() + bytes(32)


def test_members_of_other_programs_are_not_ours_to_judge() -> None:
    assert parse((outer() + "\"aa.toml\" = 'anything'\n").encode()).kbs_url == "https://127.0.0.1:8443"


@pytest.mark.parametrize("line", INNER.splitlines())
def test_every_member_is_needed(line: str) -> None:
    name = line.partition(" ")[0]
    assert name in refused(outer(INNER.replace(line, ""))).diagnosis.expected
    refused(outer(INNER.replace(line, f"{name} = 7")))
    refused(outer(INNER.replace(line, f'{name} = ""')))


@pytest.mark.parametrize(
    "text",
    [
        "",
        outer(head='version = "0.2.0"\nalgorithm = "sha256"\n'),
        outer(head='version = "0.1.0"\nalgorithm = "sha384"\n'),
        outer(head='version = "0.1.0"\n'),
        'version = "0.1.0"\nalgorithm = "sha256"\ndata = "x"\n',
        'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n',
        'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n"enclave-cc.toml" = 1\n',
        outer('kbs_url = "a"\nkbs_url = "b"\n'),
        outer(INNER + 'kbs_urls = "https://elsewhere"\n'),
        outer(INNER + "registry_ca = []\n"),
        outer("kbs_url = "),
    ],
)
def test_another_form_is_refused(text: str) -> None:
    refused(text)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff" + outer().encode(),
        outer().encode() + b"#" * MAX_BYTES,
        b"a = " + b"[" * 100_000,
        b"a = " + b"9" * 100_000,
        b"a = 2026-99-99",
        b"\0",
    ],
)
def test_bytes_that_are_no_toml_or_too_many_are_refused(raw: bytes) -> None:
    assert len(refused(raw).diagnosis.got) <= 500


@given(st.binary() | st.text().map(lambda text: outer(text).encode("utf-8", "replace")))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(Permanent):
        assert parse(raw).text.encode() == raw
