"""The signing key's file: cosign's format, both ways."""

from __future__ import annotations

import base64
import json
import re

import pytest

from deploy.publish.cosign_key import SigningKey
from orchestrator.faults import Code, Permanent
from workers.enclave.image.signature import Signature

KEY = SigningKey.generate()
FILE = KEY.write(b"password")


def changed(**members: object) -> bytes:
    body = b"".join(line for line in FILE.splitlines() if not line.startswith(b"-----"))
    document = json.loads(base64.b64decode(body)) | members
    encoded = base64.b64encode(json.dumps(document).encode())
    return (
        b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
        + encoded
        + b"\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
    )


@pytest.mark.parametrize("password", [b"", b"password", "pässwörd".encode()])
def test_a_key_survives_its_file(password: bytes) -> None:
    found = SigningKey.read(KEY.write(password), password)
    assert found.public_pem() == KEY.public_pem()
    found.public().verify(Signature(b"payload", KEY.sign(b"payload")))


def test_the_older_label_and_windows_line_ends_are_read() -> None:
    for file in (FILE.replace(b"SIGSTORE", b"COSIGN"), FILE.replace(b"\n", b"\r\n")):
        assert SigningKey.read(file, b"password").public_pem() == KEY.public_pem()


def test_a_wrong_password_is_refused_and_not_told() -> None:
    with pytest.raises(Permanent) as refused:
        SigningKey.read(FILE, b"hunter2")
    assert refused.value.code is Code.INPUT
    assert "hunter2" not in refused.value.diagnostics()


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(b"", id="empty"),
        pytest.param(KEY.public_pem(), id="public-key"),
        pytest.param(FILE[:-10], id="cut"),
        pytest.param(changed(kdf={"name": "argon2"}), id="another-kdf"),
        pytest.param(
            changed(kdf={"name": "scrypt", "params": {"N": 1 << 20, "r": 8, "p": 1}, "salt": "AAAA"}), id="a-gigabyte"
        ),
        pytest.param(
            changed(kdf={"name": "scrypt", "params": {"N": 65535, "r": 8, "p": 1}, "salt": "AAAA"}),
            id="no-power-of-two",
        ),
        pytest.param(changed(cipher={"name": "nacl/secretbox", "nonce": "AAAA"}), id="short-nonce"),
        pytest.param(changed(ciphertext=base64.b64encode(bytes(200)).decode()), id="altered"),
    ],
)
def test_what_is_no_key_file_is_refused(file: bytes) -> None:
    with pytest.raises(Permanent) as refused:
        SigningKey.read(file, b"password")
    assert refused.value.code is Code.INPUT


def test_a_key_shows_nothing_of_itself() -> None:
    assert re.fullmatch(r"SigningKey\(\)", repr(KEY))
