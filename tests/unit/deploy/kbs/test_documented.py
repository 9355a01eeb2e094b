"""docs/formats/kbs.md says what the code does."""

from __future__ import annotations

import inspect
import json
import re

import pytest

from deploy.kbs import refused
from deploy.kbs.refused import Reason
from schemas.kbs import ERROR_TYPE_PREFIX
from workers.enclave.kbs.channel import Reply
from workers.enclave.kbs.refusal import Refusal


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs/formats/kbs.md").read_text()


@pytest.fixture(scope="module")
def reasons(page):
    """From the table of reasons: word to code."""
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| `(E-[A-Z]+-[0-9]+)`", page, re.MULTILINE)
    return {word: code for words, code in rows for word in re.findall(r"`([a-z-]+)`", words)}


def test_every_reason_is_documented_with_its_fault(reasons):
    assert reasons.keys() == set(Reason)
    for reason, code in reasons.items():
        body = {"type": f"{ERROR_TYPE_PREFIX}AttestationError", "detail": f"Attestation error: x: [{reason}] y"}
        assert Refusal.read(Reply(401, json.dumps(body).encode(), None)).at_attestation().code == code


def test_every_variant_is_documented(page):
    source = inspect.getsource(refused)
    variants = set(re.findall(r'Refused\(\s*"([A-Za-z]+)"', source))
    assert len(variants) == 12
    assert {variant for variant in variants if f"`{variant}`" not in page} == set()
