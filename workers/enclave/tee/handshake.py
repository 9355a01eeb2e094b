"""Mutual local attestation and key agreement of two enclaves on one machine, without I/O.

The boot init of a container is the initiator, its pod's agent the responder. docs/formats/local-attestation.md has the
messages and the key schedule. What holds when both sides have a `Session`, each line with what enforces it:

- Each peer is an enclave on this machine that ran this handshake, in the other role: its report's MAC can only be made
  by this CPU for the one who checks it, and its report data is a hash, tagged with its role, over everything before.
- Each peer is wanted: `judge` saw its true identity before any key was used.
- The initiator that attested is the enclave that said hello: the identity in its report equals the target it named.
- Nobody else has the keys: X25519 on fresh pairs, HKDF-SHA256 over the transcript with both reports.
- Both derived them: a MAC from each side over the transcript, under keys of its own.
- Nothing is a replay: both nonces are 32 random bytes of this handshake, and a handshake object runs once.

Each method takes and gives whole messages and raises `Permanent(CONFIG_LOCAL_ATTESTATION)`, or what `judge` raises.
After that, or when a method is called out of turn, the handshake is dead.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.faults import Code, Permanent
from schemas.sgx import REPORT_BYTES, TARGET_INFO_BYTES, MalformedStructure, Report, TargetInfo, target_info_of
from workers.enclave.tee.record import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.enclave.tee.interface import Tee
    from workers.enclave.tee.judge import Judge

Structure = TypeVar("Structure", Report, TargetInfo)

VERSION: Final = b"ecc-la/1"
NONCE_BYTES: Final = 32
KEY_BYTES: Final = 32
CONFIRMATION_BYTES: Final = 32
HELLO_BYTES: Final = len(VERSION) + TARGET_INFO_BYTES + NONCE_BYTES + KEY_BYTES
ANSWER_BYTES: Final = NONCE_BYTES + KEY_BYTES + REPORT_BYTES
PROOF_BYTES: Final = REPORT_BYTES + CONFIRMATION_BYTES

_DOMAIN: Final = b"enclave-cc/local-attestation/v1"
_INITIATOR: Final = _DOMAIN + b"/initiator\0"
_RESPONDER: Final = _DOMAIN + b"/responder\0"


class _Turn(Enum):
    HELLO = "hello"
    ANSWER = "answer"
    PROOF = "proof"
    CONFIRMATION = "confirmation"
    OVER = "over"


class _Party:
    """What both roles have: a key pair, a nonce, a transcript, a turn."""

    __slots__ = ("_judge", "_key", "_nonce", "_tee", "_transcript", "_turn")

    def __init__(self, tee: Tee, judge: Judge, turn: _Turn) -> None:
        self._tee = tee
        self._judge = judge
        self._key = X25519PrivateKey.generate()
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._transcript = _DOMAIN
        self._turn = turn

    def _take(self, turn: _Turn, message: bytes, length: int) -> None:
        """Enter `turn`. The handshake is over unless the method that called comes to its end."""
        mine, self._turn = self._turn, _Turn.OVER
        if mine is not turn:
            raise _failed("a handshake runs once and in order", turn.value, mine.value)
        if len(message) != length:
            raise _failed("a message has the wrong length", f"{length} bytes", f"{len(message)} bytes")

    def _absorb(self, *parts: bytes) -> None:
        """Every part has a fixed length, so the hash binds each of them."""
        self._transcript = hashlib.sha256(b"".join((self._transcript, *parts))).digest()

    def _public_key(self) -> bytes:
        return self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def _statement(self, role: bytes) -> bytes:
        """What the party in `role` puts in its report at this point of the transcript: 32 bytes, zero padded to 64."""
        return hashlib.sha256(role + self._transcript).digest().ljust(64, b"\0")

    def _examine(self, raw: bytes, statement: bytes) -> Report:
        """The peer's report: first that it is real, then that it is of this handshake, then whether it is wanted."""
        report = _parsed(Report.parse, raw)
        self._tee.verify_report(report)
        if not hmac.compare_digest(report.body.report_data, statement):
            raise _failed("the peer's report is not of this handshake", statement.hex(), report.body.report_data.hex())
        self._judge(report.body)
        return report

    def _keys(self, peer_key: bytes) -> _Keys:
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(peer_key))
        except ValueError as error:
            raise _failed("the peer's public key is of low order", "a point of X25519", "a degenerate one") from error
        return _Keys(HKDF(hashes.SHA256(), 4 * KEY_BYTES, self._transcript, _DOMAIN + b"/keys").derive(shared))


class _Keys:
    """The four keys of a handshake."""

    __slots__ = ("initiator_confirms", "responder_confirms", "to_initiator", "to_responder")

    def __init__(self, material: bytes) -> None:
        self.initiator_confirms, self.responder_confirms, self.to_responder, self.to_initiator = (
            material[at : at + KEY_BYTES] for at in range(0, 4 * KEY_BYTES, KEY_BYTES)
        )


class Initiator(_Party):
    """The boot init's side: `hello`, `prove`, `finish`, in this order, once."""

    __slots__ = ("_keys_agreed", "_peer")

    def __init__(self, tee: Tee, judge: Judge) -> None:
        super().__init__(tee, judge, _Turn.HELLO)
        self._peer: Report | None = None
        self._keys_agreed: _Keys | None = None

    def hello(self) -> bytes:
        """The first message, `HELLO_BYTES` long."""
        self._take(_Turn.HELLO, b"", 0)
        message = VERSION + self._tee.my_target_info().encode() + self._nonce + self._public_key()
        self._absorb(message)
        self._turn = _Turn.ANSWER
        return message

    def prove(self, answer: bytes) -> bytes:
        """The third message, `PROOF_BYTES` long, for the responder's, `ANSWER_BYTES` long."""
        self._take(_Turn.ANSWER, answer, ANSWER_BYTES)
        nonce, key, raw_report = _split(answer, NONCE_BYTES, KEY_BYTES, REPORT_BYTES)
        self._absorb(nonce, key)
        self._peer = self._examine(raw_report, self._statement(_RESPONDER))
        self._absorb(raw_report)
        report = self._tee.report(target_info_of(self._peer.body), self._statement(_INITIATOR)).encode()
        self._absorb(report)
        self._keys_agreed = self._keys(key)
        confirmation = _confirm(self._keys_agreed.initiator_confirms, self._transcript)
        self._absorb(confirmation)
        self._turn = _Turn.CONFIRMATION
        return report + confirmation

    def finish(self, confirmation: bytes) -> Session:
        """The channel, once the responder has confirmed its keys."""
        self._take(_Turn.CONFIRMATION, confirmation, CONFIRMATION_BYTES)
        if self._keys_agreed is None or self._peer is None:
            raise _failed("a handshake runs once and in order", _Turn.CONFIRMATION.value, _Turn.OVER.value)
        _check(self._keys_agreed.responder_confirms, self._transcript, confirmation)
        return Session(self._peer.body, sends=self._keys_agreed.to_responder, receives=self._keys_agreed.to_initiator)


class Responder(_Party):
    """The agent's side: `answer`, `finish`, in this order, once."""

    __slots__ = ("_peer_key", "_target")

    def __init__(self, tee: Tee, judge: Judge) -> None:
        super().__init__(tee, judge, _Turn.HELLO)
        self._peer_key = b""
        self._target: TargetInfo | None = None

    def answer(self, hello: bytes) -> bytes:
        """The second message, `ANSWER_BYTES` long, for the initiator's, `HELLO_BYTES` long."""
        self._take(_Turn.HELLO, hello, HELLO_BYTES)
        version, raw_target, _nonce, self._peer_key = _split(
            hello, len(VERSION), TARGET_INFO_BYTES, NONCE_BYTES, KEY_BYTES
        )
        if version != VERSION:
            raise _failed("the peer speaks another protocol", VERSION.decode(), repr(version))
        self._target = _parsed(TargetInfo.parse, raw_target)
        public_key = self._public_key()
        self._absorb(hello)
        self._absorb(self._nonce, public_key)
        report = self._tee.report(self._target, self._statement(_RESPONDER)).encode()
        self._absorb(report)
        self._turn = _Turn.PROOF
        return self._nonce + public_key + report

    def finish(self, proof: bytes) -> tuple[bytes, Session]:
        """The last message, `CONFIRMATION_BYTES` long, and the channel, for the initiator's proof."""
        self._take(_Turn.PROOF, proof, PROOF_BYTES)
        raw_report, confirmation = _split(proof, REPORT_BYTES, CONFIRMATION_BYTES)
        peer = self._examine(raw_report, self._statement(_INITIATOR))
        if target_info_of(peer.body) != self._target:
            raise _failed(
                "the enclave that attested is not the one that said hello",
                "the identity named in the hello",
                f"MRENCLAVE {peer.body.mrenclave.hex()}",
            )
        self._absorb(raw_report)
        keys = self._keys(self._peer_key)
        _check(keys.initiator_confirms, self._transcript, confirmation)
        self._absorb(confirmation)
        session = Session(peer.body, sends=keys.to_initiator, receives=keys.to_responder)
        return _confirm(keys.responder_confirms, self._transcript), session


def _confirm(key: bytes, transcript: bytes) -> bytes:
    return hmac.digest(key, transcript, "sha256")


def _check(key: bytes, transcript: bytes, confirmation: bytes) -> None:
    if not hmac.compare_digest(_confirm(key, transcript), confirmation):
        raise _failed("the peer did not derive the same keys", "its confirmation", "another")


def _split(message: bytes, *lengths: int) -> list[bytes]:
    ends = [sum(lengths[: index + 1]) for index in range(len(lengths))]
    return [message[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _parsed(parse: Callable[[bytes], Structure], raw: bytes) -> Structure:
    try:
        return parse(raw)
    except MalformedStructure as malformed:
        raise _failed("a message is malformed", malformed.expected, malformed.got) from malformed


def _failed(message: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.CONFIG_LOCAL_ATTESTATION,
        f"local attestation failed: {message}",
        expected=expected,
        got=got,
        advice="something between the two enclaves, or one of them, does not keep to the protocol",
    )
