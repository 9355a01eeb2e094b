"""A blob as a stream that survives a broken connection: it asks for the rest by Range (RFC 9110 section 14).

It counts bytes and hashes nothing: `layers` and `registry` judge content. At most `size` bytes ever come out; a server
that offers more is cut off there, and the digest tells. Patience is for connections that break, not for slow ones:
after `_ATTEMPTS` connections in a row that brought no byte, or `_MOST_CONNECTIONS` in all, it gives up.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Final

from urllib3.exceptions import HTTPError

from orchestrator.faults import Code, Permanent, Temporary
from workers.enclave.image.transport import away

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from urllib3.response import BaseHTTPResponse

    from workers.enclave.image.transport import Transport

_ATTEMPTS: Final = 4
_MOST_CONNECTIONS: Final = 64
_PAUSE_SECONDS: Final = 0.2
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.ASCII)


class BlobStream:
    """The bytes of one blob, in order. One thread reads; any may close."""

    def __init__(self, transport: Transport, url: str, scope: str, *, digest: str, size: int) -> None:
        """Prepare; the first `read` connects.

        Args:
            transport: the way there.
            url: of the blob, absolute.
            scope: of the token.
            digest: named in faults.
            size: bytes that the descriptor promises.
        """
        self._transport = transport
        self._url = url
        self._scope = scope
        self._digest = digest
        self._size = size
        self._offset = 0
        self._answer: BaseHTTPResponse | None = None
        self._fruitless = 0
        self._connections = 0
        self._closed = False

    @property
    def offset(self) -> int:
        """Bytes handed out so far."""
        return self._offset

    def read(self, size: int) -> bytes:
        """The next bytes, `size` of them unless the blob ends before; b"" at its promised end.

        Raises:
            Temporary: IMAGE_REGISTRY_AWAY or IMAGE_TRUNCATED, when connections keep breaking.
            Permanent: IMAGE_TRUNCATED, when the registry says that the blob is shorter; IMAGE_NOT_FOUND.
        """
        wanted = min(size, self._size - self._offset)
        pieces: list[bytes] = []
        while wanted > 0:
            piece = self._piece(wanted)
            wanted -= len(piece)
            self._offset += len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """End it for good. Safe to call twice, and while another thread reads: that read then fails at once."""
        self._closed = True
        answer = self._answer
        if answer is not None:
            # Closing does not wake a thread that waits in recv(2); shutting down does.
            with contextlib.suppress(OSError, ValueError, RuntimeError):  # it ended meanwhile
                answer.shutdown()
        self._drop()

    def _drop(self) -> None:
        """Let go of the connection if there is one."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _piece(self, wanted: int) -> bytes:
        """At least one byte, at most `wanted`; reconnects as often as the module's patience allows."""
        while True:
            try:
                answer = self._answer or self._connect()
                piece = answer.read1(wanted, decode_content=False)
            except HTTPError as error:
                self._broken(away(self._url, error))
                continue
            except Temporary as fault:
                self._broken(fault)
                continue
            if piece:
                self._fruitless = 0
                return piece
            # A clean end: the registry delivered all that it announced, and that is too little.
            self._drop()
            raise self._short(Permanent)

    def _connect(self) -> BaseHTTPResponse:
        self._connections += 1
        resumed = self._offset > 0
        headers = {"Range": f"bytes={self._offset}-"} if resumed else {}
        accept = frozenset({200, 206, 416}) if resumed else frozenset({200})
        answer = self._transport.ask("GET", self._url, scope=self._scope, headers=headers, accept=accept)
        self._answer = answer
        if answer.status == 416:
            self._drop()
            raise self._short(Permanent)
        if answer.status == 206:
            found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != self._offset:
                self._drop()
                raise Permanent(
                    Code.IMAGE_ALTERED,
                    f"the registry answered another part of blob {self._digest} than was asked for",
                    expected=f"bytes from {self._offset}",
                    got=answer.headers.get("Content-Range", "no Content-Range")[:100],
                )
        elif resumed:
            self._skip(answer)
        return answer

    def _skip(self, answer: BaseHTTPResponse) -> None:
        """Read what is already here again, because this server knows no Range. The digest covers the first reading."""
        left = self._offset
        while left:
            again = answer.read1(min(left, 1 << 20), decode_content=False)
            if not again:
                raise self._short(Permanent)
            left -= len(again)

    def _broken(self, fault: Temporary) -> None:
        """Note a broken connection; raise when patience is at its end."""
        self._drop()
        if self._closed:
            raise fault
        self._fruitless += 1
        if self._fruitless >= _ATTEMPTS or self._connections >= _MOST_CONNECTIONS:
            # Nothing at all arrived: the registry is away. Something did: the blob is cut short.
            raise self._short(Temporary) if self._offset else fault
        time.sleep(_PAUSE_SECONDS * self._fruitless)

    def _short(self, kind: type[Permanent | Temporary]) -> Permanent | Temporary:
        return kind(
            Code.IMAGE_TRUNCATED,
            f"blob {self._digest} ends before its descriptor says",
            expected=f"{self._size} bytes",
            got=f"{self._offset} bytes",
            advice="push the image again"
            if kind is Permanent
            else "look at the way to the registry: connections break",
        )
