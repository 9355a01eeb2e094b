"""Writing to a registry: blobs as they are made, then manifests (OCI distribution specification 1.1, push).

A blob is sent in one PATCH of known length and unknown digest, which the closing PUT then names: a layer is encrypted
on its way out and rests nowhere. Blobs that are there already are not sent again.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urljoin, urlsplit

from orchestrator.faults import Code, Fault, Permanent
from workers.enclave.image.manifest import OCI_MANIFEST, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workers.enclave.image.reference import Reference
    from workers.enclave.image.transport import Transport

_STARTED: Final = frozenset({202})
_MADE: Final = frozenset({201})
_FOUND_OR_NOT: Final = frozenset({200, 404})
_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class RegistryWriter:
    """Pushes to the repository of one reference."""

    def __init__(self, transport: Transport, reference: Reference) -> None:
        self._transport = transport
        self._path = reference.path
        self._base = f"{transport.base_url(reference.registry)}/v2/{reference.path}"
        self._scope = f"repository:{reference.path}:pull,push"

    def has_blob(self, digest: str) -> bool:
        """Whether the repository holds it."""
        answer = self._transport.ask("HEAD", f"{self._base}/blobs/{digest}", scope=self._scope, accept=_FOUND_OR_NOT)
        answer.release_conn()
        return answer.status == 200

    def put_blob(self, raw: bytes) -> None:
        """Store a small blob, unless it is there.

        Raises:
            Temporary: IMAGE_REGISTRY_AWAY.
            Permanent: IMAGE_NOT_FOUND, when the registry refuses.
        """
        digest = digest_of(raw)
        if not self.has_blob(digest):
            self.stream_blob([raw], len(raw), lambda: digest)

    def stream_blob(self, chunks: Iterable[bytes], size: int, digest: Callable[[], str]) -> None:
        """Store a blob as it comes.

        Args:
            chunks: its bytes.
            size: how many they are.
            digest: asked for when they are all sent.

        Raises:
            Temporary: IMAGE_REGISTRY_AWAY. An upload cannot be resumed, its chunks are gone: begin again.
            Permanent: IMAGE_NOT_FOUND, when the registry refuses; what `chunks` raises.
        """
        # The POST has no body, so it is where a registry's challenge is met; the PATCH could not be sent twice.
        place = self._ask("POST", f"{self._base}/blobs/uploads/", _STARTED, body=b"")
        try:
            headers = _OCTETS | {"Content-Length": str(size)}
            sent = self._ask("PATCH", place, _STARTED, headers=headers, body=iter(chunks) if size else b"")
        except Permanent:
            # What the source raised: the registry holds the beginning of a blob that will never be.
            with contextlib.suppress(Fault):
                self._ask("DELETE", place, frozenset({204, 404}))
            raise
        query = urlencode({"digest": digest()})
        self._ask("PUT", f"{sent}{'&' if urlsplit(sent).query else '?'}{query}", _MADE, headers=_OCTETS, body=b"")

    def put_manifest(self, raw: bytes, name: str, media_type: str = OCI_MANIFEST) -> None:
        """Store a manifest under a tag or its own digest.

        Raises:
            Temporary: IMAGE_REGISTRY_AWAY.
            Permanent: IMAGE_NOT_FOUND, when the registry refuses.
        """
        self._ask("PUT", f"{self._base}/manifests/{name}", _MADE, headers={"Content-Type": media_type}, body=raw)

    def _ask(
        self,
        method: str,
        url: str,
        accept: frozenset[int],
        *,
        headers: dict[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> str:
        """The `Location` of the answer, absolute; at this registry, because our credentials go where it points."""
        answer = self._transport.ask(method, url, scope=self._scope, headers=headers, body=body, accept=accept)
        answer.drain_conn()
        answer.release_conn()
        place = urljoin(url, answer.headers.get("Location", url))
        if urlsplit(place).netloc != urlsplit(self._base).netloc:
            raise Permanent(
                Code.IMAGE_NOT_FOUND,
                "the registry sends an upload to another host",
                expected=urlsplit(self._base).netloc,
                got=urlsplit(place).netloc,
            )
        return place
