"""Who gets a resource, and what those who do not are told."""

from __future__ import annotations

import base64
import json

import pytest
import structlog

from deploy.kbs.certificates import Authority
from deploy.kbs.server import broker
from tests.simulators.broker import Enclave
from tests.simulators.kbs_caller import Caller, detail, variant
from tests.simulators.lying_kbs import resigned

SECRET = b"the key of a layer"


@pytest.fixture
def session(caller, pki):
    """An affirmed enclave's session; there is one resource."""
    caller.list_enclave()
    assert caller.owner("POST", "resource/default/image-key/redis", SECRET).status == 200
    return caller.attest(Enclave(pki))[1]


def token_of(caller, session):
    return json.loads(caller.send("POST", "attest", b"", session=session).body)["token"]


def test_an_affirmed_enclave_gets_what_only_it_can_read(caller, session):
    answer = caller.send("GET", "resource/default/image-key/redis", session=session)
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert SECRET not in answer.body
    assert caller.key.decrypt(answer.body) == SECRET


def test_a_bearer_token_serves_as_well_as_the_session(caller, session):
    token = token_of(caller, session)
    answer = caller.send("GET", "resource/default/image-key/redis", authorization=f"Bearer {token}")
    assert caller.key.decrypt(answer.body) == SECRET


def test_a_stolen_token_fetches_only_what_its_thief_cannot_read(caller, session):
    thief = Caller(caller.api, b"")
    answer = thief.send("GET", "resource/default/image-key/redis", authorization=f"Bearer {token_of(caller, session)}")
    assert answer.status == 200
    with pytest.raises(ValueError, match="does not decrypt"):
        thief.key.decrypt(answer.body)


@pytest.mark.parametrize("authorization", [None, "", "Basic dXNlcjo=", "bearer x", "Bearer"])
def test_without_a_token_nothing_is_said_about_resources(caller, authorization):
    answer = caller.send("GET", "resource/default/image-key/redis", authorization=authorization)
    assert (answer.status, variant(answer)) == (401, "TokenNotFound")


def test_a_token_of_another_signer_is_refused(caller, session):
    forged = resigned(token_of(caller, session), Authority().token_signer())
    answer = caller.send("GET", "resource/default/image-key/redis", authorization=f"Bearer {forged}")
    assert (answer.status, variant(answer)) == (401, "TokenVerifierError")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é", "e30.e30.", "eyJhbGciOiJub25lIn0.e30."])
def test_what_is_no_token_is_refused(caller, token):
    answer = caller.send("GET", "resource/default/image-key/redis", authorization=f"Bearer {token}")
    assert answer.status == 401
    assert variant(answer) in {"TokenVerifierError", "TokenNotFound"}


def test_an_expired_token_is_refused(caller, session):
    token = token_of(caller, session)
    later = caller.api.release._signer
    later._clock = lambda clock=later._clock: clock() + 301
    answer = caller.send("GET", "resource/default/image-key/redis", authorization=f"Bearer {token}")
    assert variant(answer) == "TokenVerifierError"
    assert "expired" in detail(answer)


def test_an_enclave_that_is_not_affirmed_is_denied_and_does_not_learn_what_exists(caller, pki):
    caller.owner("POST", "resource/default/image-key/redis", SECRET)
    _, session = caller.attest(Enclave(pki))
    for path in ("resource/default/image-key/redis", "resource/default/image-key/absent", "resource/../x", "resource"):
        answer = caller.send("GET", path, session=session)
        assert (answer.status, variant(answer), detail(answer)) == (401, "PolicyDeny", "Access denied by policy")


def test_an_affirmed_enclave_is_told_that_a_resource_is_absent(caller, session):
    answer = caller.send("GET", "resource/default/image-key/absent", session=session)
    assert (answer.status, variant(answer)) == (401, "PluginInternalError")


@pytest.mark.parametrize("path", ["a/b", "a/b/c/d", ".a/b/c", "a/b/.c", "a//c", "a/b/c\n", "a/b/é", "a/b/c d"])
def test_a_name_that_is_none_is_refused(caller, session, path):
    for answer in (
        caller.send("GET", f"resource/{path}", session=session),
        caller.owner("POST", f"resource/{path}", b"x"),
    ):
        assert (answer.status, variant(answer)) == (401, "PluginInternalError")


@pytest.mark.parametrize("path", ["resource/a%2Fb/c/d", "resource/%2e%2e/b/c", "resource/a/b/c%00"])
def test_a_path_that_hides_something_is_no_path(caller, session, path):
    answer = caller.send("GET", path, session=session)
    assert (answer.status, variant(answer)) == (404, "InvalidRequestPath")


def test_a_policy_sees_plugin_path_and_query(caller, session):
    rego = """package policy
    import rego.v1
    default allow = false
    plugin = data.plugin
    allow if {
        plugin == "resource"
        data["resource-path"] == ["default", "image-key", "redis"]
        data.query.purpose == "boot me"
        input.submods.cpu0["ear.veraison.annotated-evidence"].sgx.simulated
    }
    """
    policy = json.dumps({"policy": base64.urlsafe_b64encode(rego.encode()).decode().rstrip("=")})
    assert caller.owner("POST", "resource-policy", policy.encode()).status == 200
    path = "resource/default/image-key/redis"
    assert caller.send("GET", path, session=session, query="purpose=boot+me&other=").status == 200
    assert variant(caller.send("GET", path, session=session)) == "PolicyDeny"
    assert variant(caller.send("GET", path, session=session, query="purpose=boot")) == "PolicyDeny"


@pytest.mark.parametrize("rule", ["", "allow := 1", 'allow := "true"', "allow := {true}", "allow if input.nothing"])
def test_a_policy_that_does_not_say_true_says_no(caller, session, rule):
    rego = base64.urlsafe_b64encode(f"package policy\nimport rego.v1\n{rule}\n".encode()).decode().rstrip("=")
    assert caller.owner("POST", "resource-policy", json.dumps({"policy": rego}).encode()).status == 200
    assert variant(caller.send("GET", "resource/default/image-key/redis", session=session)) == "PolicyDeny"


def test_a_policy_that_breaks_denies(caller, session):
    rego = base64.urlsafe_b64encode(b"package policy\nallow := unknown_function(1)\n").decode().rstrip("=")
    assert caller.owner("POST", "resource-policy", json.dumps({"policy": rego}).encode()).status == 200
    answer = caller.send("GET", "resource/default/image-key/redis", session=session)
    assert (answer.status, variant(answer)) == (401, "PolicyEngineError")


def test_resources_are_private_files_that_survive_the_broker(caller, session, config, pki):
    path = config.state / "resources/default/image-key/redis"
    assert path.read_bytes() == SECRET
    assert path.stat().st_mode & 0o777 == 0o600
    assert {directory.stat().st_mode & 0o777 for directory in path.parents if config.state in directory.parents} == {
        0o700
    }
    again = Caller(broker(config), caller.admin_key)
    _, session = again.attest(Enclave(pki))
    answer = again.send("GET", "resource/default/image-key/redis", session=session)
    assert again.key.decrypt(answer.body) == SECRET


def test_a_removed_resource_is_gone(caller, session):
    assert caller.owner("DELETE", "resource/default/image-key/redis").status == 200
    assert variant(caller.owner("DELETE", "resource/default/image-key/redis")) == "PluginInternalError"
    assert variant(caller.send("GET", "resource/default/image-key/redis", session=session)) == "PluginInternalError"


def test_a_resource_is_replaced_whole_and_leaves_nothing_unfinished(caller, session, config):
    caller.owner("POST", "resource/default/image-key/redis", b"new")
    answer = caller.send("GET", "resource/default/image-key/redis", session=session)
    assert caller.key.decrypt(answer.body) == b"new"
    assert [path.name for path in (config.state / "resources/default/image-key").iterdir()] == ["redis"]


def test_no_secret_and_no_token_is_logged(caller, pki):
    with structlog.testing.capture_logs() as lines:
        caller.list_enclave()
        caller.owner("POST", "resource/default/image-key/redis", SECRET)
        answer, session = caller.attest(Enclave(pki))
        token = json.loads(answer.body)["token"]
        caller.send("GET", "resource/default/image-key/redis", session=session)
        caller.send("GET", "resource/default/image-key/absent", authorization=f"Bearer {token}")
        caller.send("GET", "resource/default/image-key/redis", authorization=f"Bearer {token}x")
    text = repr(lines)
    assert {line["event"] for line in lines} >= {"attested", "resource stored", "resource released", "resource refused"}
    for secret in (SECRET.decode(), base64.b64encode(SECRET).decode(), token, token.split(".")[2], session):
        assert secret not in text
