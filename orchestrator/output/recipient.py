"""The owner's private key, and the output's key that was wrapped for it.

Zone: owner. May import: `schemas`, `orchestrator.faults`, `joserfc`, the standard library. Source: RFC 7516 section
7.2.1; RFC 7517; made by `workers.enclave.output`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from orchestrator.faults import Code, Permanent
from schemas.recipients import Recipient
from schemas.sealed_output import KEY_BYTES, Head
from schemas.strict_json import Malformed, parse_object

ALGORITHMS: Final = ("ECDH-ES+A256KW", "A256GCM")
_LONGEST_FILE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A private key, and the public one that a policy names."""

    public: Recipient
    private: ECKey | OKPKey = field(repr=False)

    @classmethod
    def generate(cls, curve: str = "X25519") -> RecipientKey:
        """A fresh one, on X25519 or P-256."""
        made: ECKey | OKPKey = OKPKey.generate_key("X25519") if curve == "X25519" else ECKey.generate_key("P-256")
        return cls(_public(made), made)

    @classmethod
    def read(cls, path: Path) -> RecipientKey:
        """A private JWK from a file. Raises Permanent(INPUT, NOT_FOUND); never quotes what the file holds."""
        try:
            return cls._parse(path.read_bytes()[:_LONGEST_FILE])
        except OSError as error:
            raise Permanent(
                Code.NOT_FOUND, f"{path} cannot be read", expected="a private key (JWK)", got=error.strerror or ""
            ) from None
        except (Malformed, JoseError, ValueError, TypeError, KeyError):
            raise Permanent(
                Code.INPUT,
                f"{path} is no private key",
                expected="a private key (JWK) on X25519 or P-256",
                got="something else",
                advice="`enclave-cc output-key FILE` makes one",
            ) from None

    @classmethod
    def _parse(cls, raw: bytes) -> RecipientKey:
        members: Any = parse_object(raw)
        private: ECKey | OKPKey = (
            OKPKey.import_key(members) if members.get("kty") == "OKP" else ECKey.import_key(members)
        )
        if not private.is_private:
            raise Malformed("the public half only")
        return cls(_public(private), private)

    def write(self) -> bytes:
        """The private JWK."""
        return json.dumps(self.private.as_dict(private=True), indent=2).encode() + b"\n"

    def unwrap(self, head: Head) -> bytes:
        """The output's key. Raises Permanent(OUTPUT_KEY) where it was not wrapped for this key."""
        try:
            return _unwrap(head, self.public.thumbprint, self.private)
        except (Malformed, JoseError, InvalidTag, InvalidUnwrap, ValueError, TypeError, KeyError, AttributeError):
            raise Permanent(
                Code.OUTPUT_KEY,
                "this key does not open the sealed output",
                expected="one of the keys that the launch policy named: output_key_ids of config-delivered",
                got=self.public.thumbprint,
                advice="use the private key of one that the launch policy named when the container was started",
            ) from None


def _unwrap(head: Head, id_: str, private: ECKey | OKPKey) -> bytes:
    wrapped: Any = parse_object(head.wrapped)
    mine: Any = {**wrapped, "recipients": [entry for entry in wrapped["recipients"] if entry["header"]["kid"] == id_]}
    key = jwe.decrypt_json(mine, private, algorithms=list(ALGORITHMS)).plaintext if mine["recipients"] else None
    if key is None or len(key) != KEY_BYTES:
        raise Malformed("no key of an output")
    return key


def _public(key: ECKey | OKPKey) -> Recipient:
    jwk: Any = key.as_dict(private=False)
    return Recipient.parse({name: jwk[name] for name in ("kty", "crv", "x", "y") if name in jwk})
