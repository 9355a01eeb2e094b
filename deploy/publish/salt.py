"""A lowest layer of random bytes, so that an encrypted image shares no name with its plain twin.

Chain IDs (image-spec, config.md) and containerd's name of an image, its configuration's digest, are made of plaintext
digests. Encryption changes neither: on one node the twins would share snapshots, of which the host's are empty, and one
would be taken for the other. The layer sets the root folder's owner and mode, as a layer does that says nothing of
them, and its random bytes stand in a pax comment, which nobody unpacks.
"""

from __future__ import annotations

import json
import secrets
import tarfile
from dataclasses import dataclass, field
from typing import Final, Self

from workers.enclave.image.manifest import Descriptor, digest_of

TAR: Final = "application/vnd.oci.image.layer.v1.tar"
_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Salt:
    """The layer before its encryption: 3 KiB. Not secret: its digest stands in the configuration."""

    tar: bytes = field(repr=False)

    @classmethod
    def fresh(cls) -> Self:
        """Another one every time."""
        entry = tarfile.TarInfo("./")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        entry.pax_headers = {"comment": secrets.token_hex(_BYTES)}
        return cls(entry.tobuf(tarfile.PAX_FORMAT) + bytes(2 * tarfile.BLOCKSIZE))

    def descriptor(self) -> Descriptor:
        """The plain layer's."""
        return Descriptor(TAR, digest_of(self.tar), len(self.tar))

    def under(self, config: bytes) -> bytes:
        """An image configuration with this layer below its own; all else is as it was."""
        document = json.loads(config)
        document["rootfs"]["diff_ids"].insert(0, digest_of(self.tar))
        if document.get("history"):
            document["history"].insert(0, {"created_by": "enclave-cc publish: random bytes"})
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
