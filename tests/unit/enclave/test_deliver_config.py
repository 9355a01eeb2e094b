"""What the agent asks of secrets before it hands them over."""

from __future__ import annotations

import pytest

from orchestrator.faults import Code, Permanent
from workers.enclave.deliver_config import check_variables
from workers.enclave.launch_policy.approved import ApprovedProcess, ApprovedSecret
from workers.enclave.launch_policy.proposal import Capabilities

URI = "kbs:///default/secret/token"


def process(secret: ApprovedSecret) -> ApprovedProcess:
    return ApprovedProcess(
        argv=("/bin/app",),
        env=(),
        cwd="/",
        user="0",
        additional_gids=(),
        capabilities=Capabilities(),
        rlimits=(),
        no_new_privileges=True,
        terminal=False,
        mounts=(),
        secrets=(secret,),
        hostname="",
        read_only_root=False,
        policy_id="sha256:0",
        rule="rule-0",
        verdict="admitted",
    )


@pytest.mark.parametrize("value", [b"\xff\xfe binary", b"cut\0off", b"\xed\xa0\x80"])
def test_a_secret_that_cannot_be_a_variable_is_refused_without_its_bytes(value: bytes) -> None:
    with pytest.raises(Permanent) as raised:
        check_variables(process(ApprovedSecret(URI, "", 0o400, "TOKEN")), {URI: value})
    assert raised.value.code is Code.KEY_MALFORMED
    assert "binary" not in raised.value.diagnostics()
    assert "cut" not in raised.value.diagnostics()
    assert raised.value.__context__ is None


def test_any_bytes_can_be_a_file_and_any_text_a_variable() -> None:
    check_variables(process(ApprovedSecret(URI, "/run/secrets/token", 0o400, "")), {URI: b"\xff\0"})
    check_variables(process(ApprovedSecret(URI, "", 0o400, "TOKEN")), {URI: "öffne dich\n".encode()})
