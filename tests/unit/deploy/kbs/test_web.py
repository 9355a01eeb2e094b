"""The broker on the wire: TLS, cookies, bounds, bodies."""

from __future__ import annotations

import http.client
import json
import socket
import ssl

import pytest

from tests.simulators.broker import Broker, Enclave
from tests.simulators.kbs_caller import Caller


@pytest.fixture(scope="module")
def running(tmp_path_factory, pki):
    with Broker(tmp_path_factory.mktemp("web") / "owner", pki) as broker:
        yield broker


def connect(broker):
    context = ssl.create_default_context(cadata=broker.ca_pem)
    return http.client.HTTPSConnection("127.0.0.1", broker.config.port, context=context, timeout=10)


def ask(broker, method, path, body=None, headers=None):
    connection = connect(broker)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def test_it_is_healthy_without_a_word(running):
    response, content = ask(running, "GET", "/healthz")
    assert (response.status, content) == (200, b"")


def test_an_error_has_trustees_body_and_no_content_type(running):
    response, content = ask(running, "POST", "/kbs/v0/auth", b'{"version": "0.1.1", "tee": "sgx", "extra-params": ""}')
    assert response.status == 401
    assert response.headers["Content-Type"] is None
    assert json.loads(content)["type"] == "https://github.com/confidential-containers/kbs/errors/AttestationError"


def test_a_challenge_comes_with_its_cookie(running):
    response, content = ask(running, "POST", "/kbs/v0/auth", b'{"version": "0.4.0", "tee": "sgx", "extra-params": ""}')
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Set-Cookie"].startswith("kbs-session-id=")
    assert "server" not in response.headers
    assert set(json.loads(content)) == {"nonce", "extra-params"}


@pytest.mark.parametrize("path", ["/", "/kbs/v0", "/kbs/v1/auth", "/metrics", "/kbs//v0/auth"])
def test_other_paths_are_not_found(running, path):
    assert ask(running, "POST", path)[0].status == 404


def test_a_path_reaches_the_dispatcher_undecoded(running):
    response, content = ask(running, "GET", "/kbs/v0/resource/a%2Fb/c")
    assert response.status == 404
    assert json.loads(content)["type"].endswith("/InvalidRequestPath")


def test_a_body_over_two_mebibytes_is_refused_before_it_is_read(running):
    connection = connect(running)
    connection.putrequest("POST", "/kbs/v0/attest")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    chunk = b"%x\r\n" % 2**16 + bytes(2**16) + b"\r\n"
    for _ in range(33):
        connection.send(chunk)
    assert connection.getresponse().status == 413
    connection.close()


def test_a_head_over_128_kibibytes_is_refused(running):
    """Not one byte more is sent than makes it too long: an answer to a caller that still speaks may be lost."""
    head = b"GET /kbs/v0/resource/a/b/c HTTP/1.1\r\nHost: kbs\r\nAuthorization: Bearer "
    context = ssl.create_default_context(cadata=running.ca_pem)
    with (
        socket.create_connection(("127.0.0.1", running.config.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(head.ljust(128 * 1024 + 1, b"x"))
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 400
    assert ask(running, "GET", "/healthz")[0].status == 200


def test_a_large_token_still_fits(running):
    response, content = ask(
        running, "GET", "/kbs/v0/resource/a/b/c", headers={"Authorization": "Bearer " + "x" * 60_000}
    )
    assert response.status == 401
    assert json.loads(content)["type"].endswith("/TokenVerifierError")


def test_a_cookie_that_is_none_is_no_session(running):
    for cookie in ("kbs-session-id", "a=b; kbs-session-id=;;", "kbs-session-id=\x01", 'kbs-session-id="'):
        assert ask(running, "POST", "/kbs/v0/attest", b"{}", {"Cookie": cookie})[0].status == 401


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_it_speaks_no_tls_before_1_2_and_no_plain_http(running):
    old = ssl.create_default_context(cadata=running.ca_pem)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", running.config.port), timeout=10) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", running.config.port), timeout=10) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP/1.1 200")


def test_it_serves_under_each_of_its_names(running):
    context = ssl.create_default_context(cadata=running.ca_pem)
    for name in ("127.0.0.1", "localhost"):
        with socket.create_connection(("127.0.0.1", running.config.port), timeout=10) as plain:
            context.wrap_socket(plain, server_hostname=name).close()


def test_a_whole_handshake_on_the_wire(running, pki):
    running.list_enclave(Enclave(pki).mrenclave)
    auth, challenge = ask(running, "POST", "/kbs/v0/auth", b'{"version": "0.4.0", "tee": "sgx", "extra-params": ""}')
    caller = Caller(None, b"")
    body = json.dumps(caller.evidence(Enclave(pki), json.loads(challenge)["nonce"])).encode()
    cookie = {"Cookie": auth.headers["Set-Cookie"].partition(";")[0]}
    response, content = ask(running, "POST", "/kbs/v0/attest", body, cookie)
    assert response.status == 200
    assert set(json.loads(content)) == {"token"}
    response, content = ask(running, "GET", "/kbs/v0/resource/default/key/absent", headers=cookie)
    assert json.loads(content)["type"].endswith("/PluginInternalError")
