"""Handshakes under way. In memory: whoever was in the middle of one when the broker stopped begins again."""

from __future__ import annotations

import base64
import secrets
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from schemas.kbs import NONCE_BYTES, SESSION_COOKIE

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_SESSIONS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """One handshake: the challenge, and the token once it is met. `expires_at` is unix seconds."""

    id: str
    nonce: str
    expires_at: float
    token: str | None = None

    def cookie(self) -> str:
        """The Set-Cookie value: no attribute but Expires, as Trustee's."""
        return f"{SESSION_COOKIE}={self.id}; Expires={formatdate(self.expires_at, usegmt=True)}"


class Sessions:
    """At most 10,000 sessions; beyond that the oldest goes, so that strangers cannot fill the memory."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._seconds = seconds
        self._clock = clock
        self._turn = threading.Lock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def open(self) -> Session:
        """A new session with a challenge that was never used."""
        nonce = base64.b64encode(secrets.token_bytes(NONCE_BYTES)).decode("ascii")
        session = Session(uuid.uuid4().hex, nonce, self._clock() + self._seconds)
        with self._turn:
            self._forget_expired()
            while len(self._sessions) >= _MAX_SESSIONS:
                self._sessions.popitem(last=False)
            self._sessions[session.id] = session
        return session

    def find(self, session_id: str) -> Session | None:
        """The session, unless it expired or never was."""
        with self._turn:
            self._forget_expired()
            return self._sessions.get(session_id)

    def attested(self, session: Session, token: str) -> Session:
        """Remember the token that the session earned."""
        earned = replace(session, token=token)
        with self._turn:
            if session.id in self._sessions:
                self._sessions[session.id] = earned
        return earned

    def _forget_expired(self) -> None:
        """Sessions stand in the order in which they expire, because all live equally long."""
        now = self._clock()
        while self._sessions and next(iter(self._sessions.values())).expires_at <= now:
            self._sessions.popitem(last=False)
