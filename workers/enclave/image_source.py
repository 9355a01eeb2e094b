"""Which image a reference means, by the owner's word of this moment.

Zone: enclave. May import: `workers.enclave`.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.enclave.image.policy import ImagePolicy
from workers.enclave.image.pull import ImagePlan, resolve
from workers.enclave.image.registry import Registry
from workers.enclave.kbs.client import KbsClient
from workers.enclave.kbs.uri import ResourceUri


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The registry, and the key broker that has the image policy under the URI `policy`. Its methods block."""

    kbs: KbsClient
    registry: Registry
    policy: str

    def plan(self, reference: str) -> ImagePlan:
        """Everything but the layers: judged, its keys unwrapped. Raises what `image.pull.resolve` and the broker do."""
        policy = ImagePolicy.parse(self._resource(self.policy))
        return resolve(reference, self.registry, policy, self._resource)

    def _resource(self, uri: str) -> bytes:
        return self.kbs.get_resource(ResourceUri.parse(uri))
