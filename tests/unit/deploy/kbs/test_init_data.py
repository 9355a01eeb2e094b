"""Init-data, read as Trustee reads it."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.kbs.init_data import InitData
from deploy.kbs.refused import EvidenceRefused, Reason


def document(algorithm="sha256", data='plain = "text"'):
    return f'version = "0.1.0"\nalgorithm = "{algorithm}"\n[data]\n{data}\n'


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_the_digest_is_over_the_whole_text(algorithm):
    text = document(algorithm)
    assert InitData.parse(text).digest == hashlib.new(algorithm, text.encode()).digest()
    assert InitData.parse(text + "# note\n").digest != InitData.parse(text).digest


def test_the_agents_files_become_json_and_others_stay_text():
    claims = InitData.parse(
        document(data='"aa.toml" = "a = [1]"\n"cdh.toml" = "no toml"\n"enclave-cc.toml" = "a = 1"')
    ).claims
    assert claims == {"aa.toml": {"a": [1]}, "cdh.toml": "no toml", "enclave-cc.toml": "a = 1"}


def test_a_date_that_json_cannot_say_stays_text():
    assert InitData.parse(document(data='"aa.toml" = "a = 2020-01-01"')).claims == {"aa.toml": "a = 2020-01-01"}


def test_an_agent_policys_data_stands_for_the_policy():
    claims = InitData.parse(document(data="'policy.rego' = '''package p\npolicy_data := {\"a\": [1]}'''")).claims
    assert claims == {"agent_policy_claims": {"a": [1]}}
    whole = InitData.parse(document(data="'policy.rego' = 'package p'")).claims
    assert whole == {"policy.rego": "package p"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        document("sha1"),
        document("md5"),
        document().replace('version = "0.1.0"\n', ""),
        document().replace("[data]", "[other]"),
        document(data="number = 1"),
        document(data="[data.nested]"),
    ],
)
def test_what_is_no_init_data_is_refused(text):
    with pytest.raises(EvidenceRefused) as refused:
        InitData.parse(text)
    assert refused.value.reason is Reason.INIT_DATA


@settings(max_examples=100, deadline=None)
@given(st.text() | st.text().map(lambda text: document(data=text)))
def test_any_text_is_init_data_or_refused(text):
    with contextlib.suppress(EvidenceRefused):
        assert len(InitData.parse(text).digest) == 32
