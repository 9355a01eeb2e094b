"""decrypt_image: the image is judged, and its layers are in a sealed store of the pod.

Zone: enclave. May import: `workers.enclave`, `orchestrator.{events,launch}`.

The owner's policy, the registry and the broker are asked for every container, whether or not the pod has the image: a
container that is started again tomorrow is one that the owner admits tomorrow.

A failure is told to the host, so it says nothing that was read: see `sealed_images.seal`.
"""

from __future__ import annotations

import asyncio
import time

from orchestrator.events import Command, ImageDecrypted
from orchestrator.launch import Container, Launch
from workers.enclave.image_source import ImageSource
from workers.enclave.policy_cache import LaunchPolicies
from workers.enclave.sealed_images import SealedImages
from workers.enclave.work import ContainerWork, Works


class DecryptImage:
    """The transition requested -> image-decrypted of a container."""

    def __init__(self, source: ImageSource, policies: LaunchPolicies, images: SealedImages, works: Works) -> None:
        self._source = source
        self._policies = policies
        self._images = images
        self._works = works

    async def __call__(self, command: Command, launch: Launch) -> ImageDecrypted:
        """Raises what `ImageSource.plan` and `SealedImages.get` raise.

        Of a container that is resumed also what `KbsClient.attest` and `LaunchPolicies.renew` raise.
        """
        self._works.keep({c.id for c in launch.containers.values() if c.progress.live})
        container = launch.containers[command.container]
        started = time.monotonic_ns()
        if _is_resumed(container):  # what the broker once believed, and what it said, is of before
            await asyncio.to_thread(self._source.kbs.attest)
            await self._policies.renew()
        plan = await asyncio.to_thread(self._source.plan, container.requested.image)
        image, was_read = await self._images.get(plan, _generation(container))
        self._works.put(command.container, ContainerWork(plan, image))
        return ImageDecrypted(
            reference=str(plan.reference),
            manifest_digest=plan.manifest_digest,
            policy=plan.verdict.policy_id,
            verdict=f"{plan.verdict.rule}: {plan.verdict.key_fingerprint or 'no signature asked for'}",
            key_ids=plan.key_ids,
            bytes=plan.blob_bytes if was_read else 0,
            nanoseconds=time.monotonic_ns() - started,
        )


def _is_resumed(container: Container) -> bool:
    return container.progress.first > 1


def _generation(container: Container) -> str:
    """What is resumed uses nothing of what failed, neither its own nor another container's."""
    return f"{container.id}.{container.progress.first}" if _is_resumed(container) else ""
