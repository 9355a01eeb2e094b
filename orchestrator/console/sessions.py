"""The local token, and the cookie that says who has entered.

Zone: host. May import: `cryptography`, `orchestrator.faults`, `orchestrator.console.roles`, the standard library.

- A token is 32 random bytes in a file that only its owner may read; each role that the console has, has one. Whoever
  can read it may enter: on one machine that is root. It is compared in constant time, is never part of an address, and
  is not logged.
- The cookie is `payload.tag`, both base64url: a JSON list [version, name, role, door, expiry] and its HMAC-SHA-256.
  The key is derived from the token (HKDF), so replacing the token ends every session, and nothing is kept on the side.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.console.roles import NOBODY, Identity, Role
from orchestrator.faults import Code, Permanent

LIFETIME: Final = 12 * 3600
"""Seconds until one must enter again: an operator's shift."""

_VERSION: Final = 1
_LONGEST: Final = 2048
_TOKEN_BYTES: Final = 32


class Token:
    """The secret that opens the console to whoever holds it."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()

    def __repr__(self) -> str:
        """Without the secret."""
        return "Token(…)"

    @classmethod
    def of_file(cls, path: Path) -> Token:
        """Read the token, making the file first if there is none.

        Raises Permanent(INPUT) for a file that others may read, or that holds no token.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text("ascii", errors="replace").strip()
        if mode & 0o077 or len(text) < _TOKEN_BYTES:
            raise Permanent(
                Code.INPUT,
                "the console's token file cannot be used",
                expected=f"mode 0600 and at least {_TOKEN_BYTES} characters",
                got=f"mode {mode:04o} and {len(text)} characters in {path}",
                advice="remove it; the console makes a new one when it starts",
            )
        return cls(text)

    def opens(self, given: str) -> bool:
        """Whether this is the token; in a time that does not depend on where it differs."""
        return hmac.compare_digest(given.strip().encode(), self._text)

    def derive(self, purpose: str) -> bytes:
        """A 32-byte key for one purpose (RFC 5869)."""
        return HKDF(SHA256(), 32, salt=None, info=b"enclave-cc/console/" + purpose.encode()).derive(self._text)


class Seal:
    """Signs short values that a browser keeps for us."""

    def __init__(self, key: bytes, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now

    def close(self, values: list[str | int], lifetime: float) -> str:
        """`values` and when they end to be believed, as a cookie's value."""
        document = json.dumps([*values, int(self._now() + lifetime)], separators=(",", ":")).encode()
        return f"{_encode(document)}.{_encode(self._tag(document))}"

    def open(self, cookie: str) -> list[object] | None:
        """The values; None for what was not closed with this key, or whose time is over."""
        payload, dot, tag = cookie.partition(".")
        if not dot or len(cookie) > _LONGEST:
            return None
        try:
            document = base64.b64decode(_padded(payload), b"-_", validate=True)
            given = base64.b64decode(_padded(tag), b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if not hmac.compare_digest(given, self._tag(document)):
            return None
        *values, expiry = json.loads(document)  # ours: nobody else could make the tag
        return values if self._now() < expiry else None

    def _tag(self, document: bytes) -> bytes:
        return hmac.digest(self._key, document, "sha256")


class Sessions:
    """Who has entered, kept by their browsers. A role's sessions are sealed under a key of its own token's, so that a
    reader's token makes no operator's session.
    """

    def __init__(self, tokens: Mapping[Role, Token], now: Callable[[], float] = time.time) -> None:
        self._seals = {role: Seal(token.derive("session"), now) for role, token in tokens.items()}

    def begin(self, identity: Identity) -> str:
        """The cookie's value for somebody who has just proved who they are, in a role that this console has."""
        values: list[str | int] = [_VERSION, identity.name[:200], int(identity.role), identity.door]
        return self._seals[identity.role].close(values, LIFETIME)

    def who(self, cookie: str) -> Identity:
        """Who holds this cookie; `NOBODY` for one that is not ours, or too old."""
        for role, seal in self._seals.items():
            match seal.open(cookie):
                case [1, str() as name, int() as sealed, str() as door] if sealed == role:
                    return Identity(name, role, door)
        return NOBODY


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)
