"""A layer as a tar stream that proves itself at its end.

    blob -> [1 size] [2 sha256] [3 HMAC] -> AES-256-CTR -> [4 sha256] -> gunzip [5 end] -> [6 bound] [7 sha256] -> tar

Checks, in the order of the stream:

1. The blob has the size that its descriptor promises.
2. The blob's SHA-256 is the descriptor's digest.
3. An encrypted blob's HMAC-SHA256, under the layer's key over the ciphertext, is the one in the public options.
4. The decrypted, still compressed layer's SHA-256 is the digest wrapped with its key. This is the check that catches a
   wrong counter block, which the HMAC does not cover.
5. The compressed stream ends where a gzip member ends.
6. The tar is no longer than the policy's bound: a few kilobytes can decompress to terabytes.
7. The tar's SHA-256 is the diff_id of the signed configuration.

1 to 5 and 7 are known at the end only, so the reader gets bytes that are not yet proved. `verify()` reads what is left
and raises unless all seven hold. Misuse: to use, keep or report anything made from the stream before `verify()` came
back. Where decompression trips over altered bytes, the first failing check of 1 to 4 is named, not the decompressor's
complaint.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from orchestrator.faults import Code, Fault, Permanent
from workers.enclave.image.gunzip import Gunzip, NotGzipError, Uncompressed
from workers.enclave.image.ocicrypt import ENCRYPTED, is_encrypted

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from workers.enclave.image.gunzip import Decompressor
    from workers.enclave.image.manifest import Descriptor
    from workers.enclave.image.ocicrypt import LayerKey

_COMPRESSION: Final = {
    "application/vnd.oci.image.layer.v1.tar": "none",
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "none",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "none",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
}
_CHUNK: Final = 256 * 1024
"""Bytes of blob at a time: large enough that hashes run without the interpreter, small enough for a cache."""


class ByteSource(Protocol):
    """What a layer is read from: `blob.BlobStream`, or an open file."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; b"" at the end only."""
        ...

    def close(self) -> None:
        """Give up the rest."""
        ...


def compression_of(descriptor: Descriptor) -> str:
    """`gzip` or `none`.

    Raises:
        Permanent: IMAGE_MALFORMED, for zstd (no decompressor inside the enclave) and for what is no layer.
    """
    found = _COMPRESSION.get(descriptor.media_type.removesuffix(ENCRYPTED), "")
    if found in {"gzip", "none"}:
        return found
    raise Permanent(
        Code.IMAGE_MALFORMED,
        f"layer {descriptor.digest} is zstd-compressed" if found else f"{descriptor.digest} is no layer",
        expected="a tar layer, plain or gzip",
        got=descriptor.media_type,
        advice="push the image with gzip layers: skopeo copy --dest-compress-format gzip",
    )


def open_layer(
    source: ByteSource, descriptor: Descriptor, *, diff_id: str, key: LayerKey | None, most_bytes: int
) -> LayerReader:
    """The tar stream of one layer.

    Args:
        source: the blob; closed with the reader.
        descriptor: from a manifest that the caller trusts by digest.
        diff_id: the digest of the uncompressed tar, from the configuration.
        key: the layer's key; None if and only if it is not encrypted.
        most_bytes: bound for the uncompressed tar.

    Raises:
        Permanent: IMAGE_MALFORMED, as `compression_of`.
    """
    if is_encrypted(descriptor) != (key is not None):
        raise ValueError("an encrypted layer is opened with its key, a plain one without")
    return LayerReader(source, descriptor, diff_id, key, most_bytes, compression_of(descriptor))


class LayerReader:
    """A readable, file-like tar stream. See the module's docstring for what `verify` proves."""

    __slots__ = (
        "_blob_bytes",
        "_blob_hash",
        "_buffer",
        "_compressed_hash",
        "_decompressor",
        "_decryptor",
        "_descriptor",
        "_diff_id",
        "_ended",
        "_failure",
        "_key",
        "_mac",
        "_most",
        "_position",
        "_source",
        "_tar_bytes",
        "_tar_hash",
        "_verified",
    )

    def __init__(
        self,
        source: ByteSource,
        descriptor: Descriptor,
        diff_id: str,
        key: LayerKey | None,
        most_bytes: int,
        compression: str,
    ) -> None:
        self._source = source
        self._descriptor = descriptor
        self._diff_id = diff_id
        self._key = key
        self._most = most_bytes
        self._blob_hash = hashlib.sha256()
        self._compressed_hash = hashlib.sha256()
        self._tar_hash = hashlib.sha256()
        self._mac = hmac.new(key.symmetric, digestmod=hashlib.sha256) if key else None
        self._decryptor = Cipher(algorithms.AES(key.symmetric), modes.CTR(key.nonce)).decryptor() if key else None
        self._decompressor: Decompressor = Gunzip() if compression == "gzip" else Uncompressed()
        self._buffer = b""
        self._position = 0
        self._blob_bytes = 0
        self._tar_bytes = 0
        self._ended = False
        self._verified = False
        self._failure: Fault | None = None

    @property
    def descriptor(self) -> Descriptor:
        """The blob's."""
        return self._descriptor

    @property
    def blob_bytes(self) -> int:
        """Bytes of the blob read so far."""
        return self._blob_bytes

    @property
    def tar_bytes(self) -> int:
        """Bytes of the tar made so far."""
        return self._tar_bytes

    @property
    def verified(self) -> bool:
        """Whether `verify` came back."""
        return self._verified

    def readable(self) -> bool:
        """Always: for what takes a file."""
        return True

    def read(self, size: int = -1) -> bytes:
        """`size` bytes of the tar, fewer only at its end; all the rest where `size` is negative. Not yet proved.

        Raises:
            Permanent: a check failed; the same fault again on every later call.
            Temporary: what the source raises.
        """
        wanted = size if size >= 0 else self._most + 1
        pieces: list[bytes] = []
        while wanted > 0 and (self._position < len(self._buffer) or self._refill()):
            piece = self._buffer[self._position : self._position + wanted]
            self._position += len(piece)
            wanted -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def verify(self) -> None:
        """Read what is left and hold it to all seven checks. Safe to call again.

        Raises:
            Permanent: IMAGE_ALTERED, IMAGE_TRUNCATED or IMAGE_MALFORMED, naming the check.
            Temporary: what the source raises.
        """
        while self.read(_CHUNK):
            pass
        self._verified = True

    def close(self) -> None:
        """Close the source. Does not verify."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refill(self) -> bool:
        """Put the next piece of the tar into the buffer; False at its end, where every check has held."""
        if self._failure is not None:
            raise self._failure
        try:
            self._buffer = b"" if self._ended else self._next()
        except Fault as fault:
            self._failure = fault
            raise
        self._position = 0
        self._ended = not self._buffer
        return not self._ended

    def _next(self) -> bytes:
        while True:
            compressed = self._decompressor.pending or self._compressed()
            try:
                tar = self._decompressor.feed(compressed)
            except NotGzipError as error:
                raise self._not_gzip(str(error)) from None
            if tar:
                self._tar_bytes += len(tar)
                if self._tar_bytes > self._most:
                    raise self._too_big()
                self._tar_hash.update(tar)
                return tar
            if not compressed:
                self._finish()
                return b""

    def _compressed(self) -> bytes:
        """The next chunk of the blob, counted, hashed and decrypted; b"" at its end."""
        chunk = self._source.read(min(_CHUNK, self._descriptor.size - self._blob_bytes + 1))
        self._blob_bytes += len(chunk)
        if self._blob_bytes > self._descriptor.size:
            raise self._altered(
                "1: the blob is longer than its descriptor says", str(self._descriptor.size), "more bytes"
            )
        self._blob_hash.update(chunk)
        if self._mac is None or self._decryptor is None:
            return chunk
        self._mac.update(chunk)
        plain = self._decryptor.update(chunk)
        self._compressed_hash.update(plain)
        return plain

    def _not_gzip(self, got: str) -> Permanent:
        """The fault for bytes that do not decompress: checks 1 to 4 if one of them explains it, else check 5."""
        while self._compressed():
            pass
        self._check_blob()
        return self._malformed("5: the layer is no gzip stream", "whole gzip members", got)

    def _finish(self) -> None:
        self._check_blob()
        tar = f"sha256:{self._tar_hash.hexdigest()}"
        if tar != self._diff_id:
            raise self._altered("7: the tar is not the one that the configuration names", self._diff_id, tar)

    def _check_blob(self) -> None:
        """Checks 1 to 4, once the blob is at its end."""
        if self._blob_bytes < self._descriptor.size:
            raise Permanent(
                Code.IMAGE_TRUNCATED,
                f"layer {self._descriptor.digest}, check 1: the blob is shorter than its descriptor says",
                expected=f"{self._descriptor.size} bytes",
                got=f"{self._blob_bytes} bytes",
                advice="push the image again",
            )
        blob = f"sha256:{self._blob_hash.hexdigest()}"
        if blob != self._descriptor.digest:
            raise self._altered("2: the blob is not what its digest says", self._descriptor.digest, blob)
        if self._key is None or self._mac is None:
            return
        mac = self._mac.digest()
        if not hmac.compare_digest(mac, self._key.hmac):
            raise self._altered("3: the ciphertext's HMAC is not the announced one", self._key.hmac.hex(), mac.hex())
        compressed = f"sha256:{self._compressed_hash.hexdigest()}"
        if compressed != self._key.digest:
            raise self._altered("4: the decrypted layer is not the one that was wrapped", self._key.digest, compressed)

    def _altered(self, check: str, expected: str, got: str) -> Permanent:
        return Permanent(
            Code.IMAGE_ALTERED,
            f"layer {self._descriptor.digest}, check {check}",
            expected=expected,
            got=got,
            advice="what answers for the registry is not honest, its storage is damaged, or the image was made wrong",
        )

    def _malformed(self, check: str, expected: str, got: str) -> Permanent:
        return Permanent(
            Code.IMAGE_MALFORMED, f"layer {self._descriptor.digest}, check {check}", expected=expected, got=got
        )

    def _too_big(self) -> Permanent:
        return Permanent(
            Code.IMAGE_MALFORMED,
            f"layer {self._descriptor.digest}, check 6: the tar is bigger than the owner's policy admits",
            expected=f"at most {self._most} bytes",
            got="more",
            advice="raise the limit in the image policy, if this size is meant",
        )
