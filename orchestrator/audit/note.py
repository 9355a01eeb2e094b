r"""Signed notes (c2sp.org/signed-note): a text and its signatures; Ed25519 and timestamped cosignatures.

Zone: any. May import: `orchestrator.{audit.malformed,faults}`, `cryptography`, the standard library. Pure.

- Type 0x01: Ed25519 over the text. A log's own signature.
- Type 0x04, cosignature/v1 (c2sp.org/tlog-cosignature): 8 bytes of POSIX time, big endian, then Ed25519 over
  `cosignature/v1\ntime T\n` and the text. A witness's statement that it saw this text then, and nothing larger.

One key may make both under one name, as our log does: the type is part of the key id, and no checkpoint's text begins
with the cosignature's header line.

Trap: a note is "signed" when any known key verifies. Whoever needs a particular signature asks for it by key, as
`orchestrator.audit.policy` does: a note whose log signature was cut off, but not the witness's, is not the log's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orchestrator.audit.malformed import MAX_INTEGER, canonical_base64, encode_base64, malformed
from orchestrator.faults import Code, Permanent

MAX_NOTE_BYTES: Final = 64 * 1024
MAX_SIGNATURES: Final = 64
"""The specification asks for at least 16."""

COSIGNATURE_HEADER: Final = "cosignature/v1"
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)
_PRIVATE: Final = "PRIVATE+KEY+"
"""As golang.org/x/mod/sumdb/note writes its signer keys."""


class SignatureType(IntEnum):
    """The signature types of signed-note that are used here."""

    ED25519 = 0x01
    COSIGNATURE_V1 = 0x04


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name and type it signs under; written `name+id+base64(type || key)`."""

    name: str
    type: SignatureType
    public: bytes

    @property
    def id(self) -> bytes:
        """4 bytes that find the key; they do not authenticate it."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{encode_base64(bytes([self.type]) + self.public)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """A vkey. Raises Permanent(AUDIT_FORMAT)."""
        name, id_, encoded = _three_parts(text, "the verifier key")
        raw = canonical_base64(encoded, "the verifier key", 1 + _KEY_BYTES)
        key = cls(name, _type(raw[0]), raw[1:])
        if key.id.hex() != id_:
            raise malformed("the verifier key", f"key id {key.id.hex()}", id_)
        return key

    def as_type(self, type_: SignatureType) -> VerifierKey:
        """The same key and name under another signature type, which is another key id."""
        return VerifierKey(self.name, type_, self.public)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: who claims to have signed, and the bytes. Nothing about it has been verified."""

    name: str
    id: bytes
    raw: bytes

    def line(self) -> str:
        """With the newline that ends it."""
        return f"— {self.name} {encode_base64(self.id + self.raw)}\n"


@dataclass(frozen=True, slots=True)
class Verified:
    """A signature that holds. `time`: seconds since 1970 that a cosignature states, None for a plain one."""

    key: VerifierKey
    signature: Signature
    time: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """A text, with its final newline, and signature lines. `verified_by` says which hold."""

    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a note. Raises Permanent(AUDIT_FORMAT)."""
        if len(raw) > MAX_NOTE_BYTES:
            raise malformed("the note", f"at most {MAX_NOTE_BYTES} bytes", f"{len(raw)} bytes")
        try:
            whole = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise malformed("the note", "UTF-8", "other bytes") from None
        if _CONTROL.search(whole):
            raise malformed("the note", "no control character but newline", whole)
        text, blank, lines = whole.rpartition("\n\n")
        if not blank or not lines:
            raise malformed("the note", "a text, an empty line and signatures", whole)
        return cls(text + "\n", parse_signatures(lines))

    def encode(self) -> bytes:
        """The bytes that `parse` reads."""
        return (self.text + "\n" + "".join(signature.line() for signature in self.signatures)).encode()

    def with_(self, signatures: Iterable[Signature]) -> Note:
        """The note with more signatures at its end."""
        return Note(self.text, (*self.signatures, *signatures))

    def verified_by(self, keys: Iterable[VerifierKey]) -> tuple[Verified, ...]:
        """Every signature by one of `keys`, verified; at most one a key, the first; unknown keys are passed over.

        Raises Permanent(AUDIT_SIGNATURE) when one by a known key does not verify, or when there is none at all.
        """
        known = {(key.name, key.id): key for key in keys}
        found: dict[VerifierKey, Verified] = {}
        for signature in self.signatures:
            key = known.get((signature.name, signature.id))
            if key is not None and key not in found:
                found[key] = Verified(key, signature, _verify(self.text, signature, key))
        if not found:
            raise _unsigned(known.values(), self.signatures)
        return tuple(found.values())


def parse_signatures(lines: str) -> tuple[Signature, ...]:
    """Signature lines, each ended by a newline. Raises Permanent(AUDIT_FORMAT)."""
    *split, rest = lines.split("\n")
    if rest or not split:
        raise malformed("the note's signatures", "lines ended by a newline", lines)
    if len(split) > MAX_SIGNATURES:
        raise malformed("the note's signatures", f"at most {MAX_SIGNATURES}", f"{len(split)}")
    return tuple(_signature(line) for line in split)


def _signature(line: str) -> Signature:
    dash, name, encoded = (*line.split(" "), "", "", "")[:3]
    if dash != "—" or line.count(" ") != 2 or not _is_name(name):
        raise malformed("a signature line", "— NAME BASE64", line)
    raw = canonical_base64(encoded, "a signature")
    if len(raw) <= 4:
        raise malformed("a signature", "a key id of 4 bytes and a signature", f"{len(raw)} bytes")
    return Signature(name, raw[:4], raw[4:])


def _verify(text: str, signature: Signature, key: VerifierKey) -> int | None:
    time, raw, message = None, signature.raw, text
    if key.type is SignatureType.COSIGNATURE_V1:
        time, raw = int.from_bytes(raw[:8], "big"), raw[8:]
        message = f"{COSIGNATURE_HEADER}\ntime {time}\n{text}"
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(raw, message.encode())
        holds = time is None or time <= MAX_INTEGER
    except (InvalidSignature, ValueError):
        holds = False
    if not holds:
        raise Permanent(
            Code.AUDIT_SIGNATURE,
            "a signature on the note is wrong",
            expected=f"a signature by {key}",
            got="one that does not verify over this text",
            advice="the text or the signature was altered, or the key is not the one that the name had",
        )
    return time


def _unsigned(keys: Iterable[VerifierKey], signatures: Iterable[Signature]) -> Permanent:
    return Permanent(
        Code.AUDIT_SIGNATURE,
        "the note is not signed by any known key",
        expected=" or ".join(sorted(map(str, keys))) or "a key to verify with",
        got=", ".join(f"{signature.name}+{signature.id.hex()}" for signature in signatures)[:500],
        advice="check that the keys are the log's; if its key was replaced, ask its owner why before trusting it",
    )


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its name. Printing it shows neither."""

    name: str
    _seed: bytes = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> Self:
        """A fresh key. Raises Permanent(INPUT) for a name that no note can carry."""
        if not _is_name(name) or not name.isascii():
            raise Permanent(
                Code.INPUT,
                "this cannot be a key's name",
                expected="ASCII without spaces and +, such as cluster-1.example/audit",
                got=ascii(name[:200]),
            )
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> Self:
        """`PRIVATE+KEY+name+id+base64(type || seed)`. Raises Permanent(AUDIT_FORMAT), never quoting the text."""
        if not text.startswith(_PRIVATE):
            raise malformed("the signing key", f"{_PRIVATE}NAME+ID+BASE64", "something else")
        try:
            name, id_, encoded = _three_parts(text.removeprefix(_PRIVATE).removesuffix("\n"), "the signing key")
            raw = canonical_base64(encoded, "the signing key", 1 + _KEY_BYTES)
        except Permanent:
            raise malformed("the signing key", f"{_PRIVATE}NAME+ID+BASE64", "something else") from None
        key = cls(name, raw[1:])
        if raw[0] != SignatureType.ED25519 or key.verifier().id.hex() != id_:
            raise malformed("the signing key", "an Ed25519 key with its own id", f"id {id_}")
        return key

    def secret_text(self) -> str:
        """What `parse` reads, to be kept in a file that only its owner reads."""
        raw = encode_base64(bytes([SignatureType.ED25519]) + self._seed)
        return f"{_PRIVATE}{self.name}+{self.verifier().id.hex()}+{raw}\n"

    def verifier(self, type_: SignatureType = SignatureType.ED25519) -> VerifierKey:
        """The public side, for signatures of that type."""
        return VerifierKey(self.name, type_, self._private.public_key().public_bytes_raw())

    def sign(self, text: str) -> Signature:
        """A plain signature, type 0x01."""
        return Signature(self.name, self.verifier().id, self._private.sign(text.encode()))

    def cosign(self, text: str, time: int) -> Signature:
        """A cosignature/v1 that states `time`, in seconds since 1970: by whoever has checked that the log only grew."""
        raw = self._private.sign(f"{COSIGNATURE_HEADER}\ntime {time}\n{text}".encode())
        return Signature(self.name, self.verifier(SignatureType.COSIGNATURE_V1).id, time.to_bytes(8, "big") + raw)

    @property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._seed)


def _three_parts(text: str, what: str) -> tuple[str, str, str]:
    """`name+id+rest`; base64 may hold further plus signs."""
    name, _, rest = text.partition("+")
    id_, _, encoded = rest.partition("+")
    if not _is_name(name) or not _KEY_ID.fullmatch(id_):
        raise malformed(what, "NAME+ID+BASE64", text)
    return name, id_, encoded


def _is_name(name: str) -> bool:
    """The specification's key name: not empty, no Unicode space, no plus; nor a control character."""
    return bool(name) and "+" not in name and not any(c.isspace() or c < " " for c in name)


def _type(byte: int) -> SignatureType:
    try:
        return SignatureType(byte)
    except ValueError:
        raise malformed("the verifier key", "a key of type 0x01 or 0x04", f"type 0x{byte:02x}") from None
