"""The key with which an operator signs orders: the one of the operator's NATS credentials.

Zone: host. May import: `nkeys`, `cryptography`, `orchestrator.{bus,faults}`, the standard library.

The same key enters the bus and signs the order: who may append is the server's permission list, and whose order it is
can be checked later by anybody who has the history.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import nkeys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.faults import Code, Permanent

_SEED: Final = re.compile(r"-----BEGIN USER NKEY SEED-----\s+(SU[A-Z2-7]{56})\s", re.ASCII)


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """`public` is 32 bytes of Ed25519, `sign` gives 64; the private half stays inside of it."""

    public: bytes
    sign: Callable[[bytes], bytes]

    @classmethod
    def load(cls, credentials: Path) -> OperatorKey:
        """From a NATS credentials file. Raises Permanent(NOT_ALLOWED) for one that cannot be read, or has no seed."""
        try:
            text = credentials.read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise _no_key(str(credentials), type(error).__name__) from error
        return cls.parse(text, str(credentials))

    @classmethod
    def parse(cls, text: str, place: str = "the credentials") -> OperatorKey:
        """From the text of such a file, which lies at `place`. Raises Permanent(NOT_ALLOWED)."""
        found = _SEED.search(text)
        if found is None:
            raise _no_key(place, "a file without a user's seed")
        try:
            _, seed = nkeys.decode_seed(found[1].encode())
            private = Ed25519PrivateKey.from_private_bytes(bytes(seed))
        except (nkeys.NkeysError, ValueError) as error:
            raise _no_key(place, "a damaged seed") from error
        return cls(private.public_key().public_bytes_raw(), private.sign)


def _no_key(place: str, got: str) -> Permanent:
    return Permanent(
        Code.NOT_ALLOWED,
        "orders are an operator's, and no operator's key can be read here",
        expected=f"the operator's NATS credentials at {place}",
        got=got,
        advice="ask somebody who has them, or name the right settings with --config",
    )
