"""The name in a signature against the name that was asked for."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from orchestrator.faults import Code, Permanent
from workers.enclave.image.document import parse_object
from workers.enclave.image.identity import parse_identity
from workers.enclave.image.reference import parse_name, parse_reference

DIGEST = "sha256:" + "ab" * 32
REMAP = {"type": "remapIdentity", "prefix": "mirror.example/hub", "signedPrefix": "hub.example"}


def verify(rule: dict[str, str] | None, asked: str, claimed: str) -> None:
    node = (
        parse_object(json.dumps(rule).encode(), what="rule", code=Code.SIGNATURE_POLICY, limit=1000) if rule else None
    )
    parse_identity(node).verify(asked=parse_reference(asked), claimed=parse_name(claimed))


@pytest.mark.parametrize(
    ("rule", "asked", "claimed", "accepted"),
    [
        (None, "r.example/app:v1", "r.example/app", True),
        (None, "r.example/app:v1", "r.example/app:v2", True),
        (None, "r.example/app@" + DIGEST, "r.example/app", True),
        (None, "r.example/app:v1", "r.example/apple", False),
        (None, "r.example/app:v1", "evil.example/app", False),
        (None, "redis", "docker.io/library/redis", True),
        ({"type": "matchExact"}, "r.example/app:v1", "r.example/app:v1", True),
        ({"type": "matchExact"}, "r.example/app:v1", "r.example/app:v2", False),
        ({"type": "matchExact"}, "r.example/app:v1", "r.example/app", False),
        ({"type": "matchExact"}, "r.example/app@" + DIGEST, "r.example/app:v1", False),
        ({"type": "matchRepoDigestOrExact"}, "r.example/app:v1", "r.example/app:v1", True),
        ({"type": "matchRepoDigestOrExact"}, "r.example/app:v1", "r.example/app", False),
        ({"type": "matchRepoDigestOrExact"}, "r.example/app@" + DIGEST, "r.example/app:v1", True),
        (
            {"type": "exactRepository", "dockerRepository": "up.example/app"},
            "r.example/x:v1",
            "up.example/app:v9",
            True,
        ),
        ({"type": "exactRepository", "dockerRepository": "up.example/app"}, "r.example/x:v1", "r.example/x", False),
        ({"type": "exactReference", "dockerReference": "up.example/app:v1"}, "r.example/x", "up.example/app:v1", True),
        ({"type": "exactReference", "dockerReference": "up.example/app:v1"}, "r.example/x", "up.example/app:v2", False),
        (REMAP, "mirror.example/hub/app:v1", "hub.example/app:v1", True),
        (REMAP, "mirror.example/hub/app:v1", "hub.example/app:v2", False),
        (REMAP, "mirror.example/hub/app:v1", "mirror.example/hub/app:v1", False),
        (REMAP, "mirror.example/hubble/app:v1", "hub.example/ble/app:v1", False),
        (REMAP, "mirror.example/hubble/app:v1", "hub.exampleble/app:v1", False),
        (REMAP, "other.example/app:v1", "other.example/app:v1", True),
    ],
)
def test_a_name_is_accepted_as_the_rule_says(rule, asked, claimed, accepted) -> None:
    with nullcontext() if accepted else pytest.raises(Permanent) as refused:
        verify(rule, asked, claimed)
    if refused is not None:
        assert refused.value.code is Code.SIGNATURE_WRONG
        assert refused.value.diagnosis.got
