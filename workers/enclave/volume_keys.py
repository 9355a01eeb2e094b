"""The keys of volumes: what the host keeps for a pod's containers, without being able to read it.

Zone: enclave. May import: `workers.enclave`, `orchestrator.faults`, `cryptography`.

A volume's key is HKDF-SHA256 (RFC 5869) of a secret, with the volume's name as context: so that a container gets the
keys of its own volumes only, and one volume's files do not open in another's place. The secret is the pod's own, made
by its agent and gone with it, or a resource of the key broker, for what must outlive the pod.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.faults import Code, Permanent
from workers.enclave.launch_policy.approved import ApprovedProcess
from workers.enclave.rootfs.crypto import KEY
from workers.enclave.tee.secrets import Secret

_DOMAIN: Final = b"enclave-cc/volume/v1\0"


class VolumeKeys:
    """Made once by an agent: its pod's key lives as long as this."""

    def __init__(self) -> None:
        self._pod = Secret.of(bytearray(os.urandom(KEY)))

    def of(self, approved: ApprovedProcess, resources: Mapping[str, bytes]) -> dict[str, bytes]:
        """The key of each volume, 32 bytes, by its destination. `resources` holds what their `key`s name.

        Raises:
            Permanent: KEY_MALFORMED, when a resource is too short to make a key of.
        """
        return {
            volume.destination: volume_key(self._secret(volume.key, resources), volume.volume)
            for volume in approved.volumes
        }

    def _secret(self, uri: str, resources: Mapping[str, bytes]) -> bytes:
        if not uri:
            return bytes(self._pod.view)
        if len(resources[uri]) < KEY:
            raise Permanent(
                Code.KEY_MALFORMED,
                f"{uri} cannot be a volume's key",
                expected=f"{KEY} random bytes",
                got=f"{len(resources[uri])} bytes",
                advice="put another resource into the key broker; what was written under this one needs this one",
            )
        return resources[uri]


def volume_key(secret: bytes, name: str) -> bytes:
    """32 bytes for the volume of that name."""
    return HKDF(SHA256(), KEY, salt=None, info=_DOMAIN + name.encode()).derive(secret)
