"""A second initiator, made from docs/formats/local-attestation.md alone, meets the real responder."""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.sgx import Report, target_info_of
from workers.enclave.tee.handshake import Responder

D = b"enclave-cc/local-attestation/v1"


def h(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def test_what_the_page_says_is_what_the_responder_speaks(agent, boot, wants_boot):
    responder = Responder(agent, wants_boot)
    private = X25519PrivateKey.generate()

    hello = b"ecc-la/1" + boot.my_target_info().encode() + os.urandom(32) + private.public_key().public_bytes_raw()
    assert len(hello) == 584
    answer = responder.answer(hello)
    assert len(answer) == 496
    nonce, public_key, report = answer[:32], answer[32:64], answer[64:]

    t1 = h(D, hello)
    t2 = h(t1, nonce, public_key)
    assert Report.parse(report).body.report_data == h(D, b"/responder\0", t2) + bytes(32)
    t3 = h(t2, report)
    mine = boot.report(target_info_of(Report.parse(report).body), h(D, b"/initiator\0", t3) + bytes(32)).encode()
    t4 = h(t3, mine)

    shared = private.exchange(X25519PublicKey.from_public_bytes(public_key))
    keys = HKDF(hashes.SHA256(), 128, t4, D + b"/keys").derive(shared)
    confirmation_key_i, confirmation_key_r, i_to_r, r_to_i = (keys[at : at + 32] for at in (0, 32, 64, 96))
    confirmation = hmac.digest(confirmation_key_i, t4, "sha256")
    last, session = responder.finish(mine + confirmation)
    assert last == hmac.digest(confirmation_key_r, h(t4, confirmation), "sha256")

    for number in range(3):
        record = session.seal(b"from the agent")
        opened = AESGCM(r_to_i).decrypt(bytes(4) + number.to_bytes(8, "big"), record[4:], record[:4])
        assert opened == b"from the agent"
        header = (16 + 4).to_bytes(4, "big")
        sealed = AESGCM(i_to_r).encrypt(bytes(4) + number.to_bytes(8, "big"), b"boot", header)
        assert session.open(header, sealed) == b"boot"
