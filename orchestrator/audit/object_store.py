"""A log in an object store: S3 and what speaks like it, Azure, Google Cloud.

Zone: host; readers anywhere. May import: `obstore`, `orchestrator.faults`, the standard library.

An object is there whole or not at all, and durable when its writing is answered. Writes wait for `flush`, which sends
them side by side. There is no lock on a bucket: one writer is the lease's business (`orchestrator.bus.lease`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from orchestrator.faults import Code, Permanent, Temporary

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Backend

_SENDING: Final = 16
"""Objects sent side by side."""

WAITING_BYTES: Final = 64 << 20
"""A flush begins by itself when so much waits."""


class ObjectStore:
    """A `storage.Store` below a URL such as `s3://bucket/prefix`; credentials come from the environment, as its tools
    have them. Every method raises Temporary(RUNTIME) when the store does not answer.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._waiting: dict[str, bytes] = {}
        self._waiting_bytes = 0

    @classmethod
    def at(cls, url: str) -> ObjectStore:
        """Raises Permanent(INPUT) for a URL that names no store."""
        try:
            return cls(from_url(url))
        except (BaseError, ValueError) as error:
            raise Permanent(
                Code.INPUT, "this is no object store", expected="a URL such as s3://bucket/prefix", got=url[:200]
            ) from error

    def read(self, name: str) -> bytes | None:
        """See Store."""
        if name in self._waiting:
            return self._waiting[name]
        try:
            return bytes(obstore.get(self._backend, name).bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise _away(name, error) from error

    def write(self, name: str, data: bytes) -> None:
        """See Store."""
        self._waiting[name] = data
        self._waiting_bytes += len(data)
        if self._waiting_bytes > WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """See Store."""
        with ThreadPoolExecutor(_SENDING) as threads:
            list(threads.map(self._put, self._waiting, self._waiting.values()))
        self._waiting, self._waiting_bytes = {}, 0

    def replace(self, name: str, data: bytes) -> None:
        """See Store."""
        self._put(name, data)

    def remove(self, folder: str) -> None:
        """See Store."""
        below = f"{folder}/"
        self._waiting = {name: data for name, data in self._waiting.items() if not name.startswith(below)}
        try:
            names = [str(found["path"]) for batch in obstore.list(self._backend, prefix=below) for found in batch]
            for name in names:
                obstore.delete(self._backend, name)
        except (BaseError, OSError) as error:
            raise _away(folder, error) from error

    def _put(self, name: str, data: bytes) -> None:
        try:
            obstore.put(self._backend, name, data)
        except (BaseError, OSError) as error:
            raise _away(name, error) from error


def _away(name: str, error: Exception) -> Temporary:
    return Temporary(
        Code.RUNTIME,
        f"the object store did not take or give {name}",
        expected="an answer",
        got=f"{type(error).__name__}: {str(error)[:300]}",
        advice="see whether it answers, and whether the environment has credentials for it",
    )
