"""decrypt_image: the image is pulled, judged, and its layers stream decrypted into the sealed store.

Zone: enclave. May import: `workers.enclave`, `orchestrator.{events,faults,launch}`.

Plaintext goes from the decryptor through the tar reader into AES-GCM units without resting anywhere. The fact is stated
only after the last layer's last check; until then nothing of the store can be opened, because nobody has its key.

A failure is told to the host, so it says nothing that was read: see `seal`.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from threading import Event

from orchestrator.events import Command, ImageDecrypted
from orchestrator.faults import Code, Permanent, Temporary
from orchestrator.launch import Launch
from schemas.places import STORES, store_name
from workers.enclave.image.layers import LayerReader
from workers.enclave.image.policy import ImagePolicy
from workers.enclave.image.pull import ImagePlan, resolve
from workers.enclave.image.registry import Registry
from workers.enclave.init_data import InitData
from workers.enclave.kbs.client import KbsClient
from workers.enclave.kbs.uri import ResourceUri
from workers.enclave.policy_cache import LaunchPolicies
from workers.enclave.rootfs.sealing import SealingWriter
from workers.enclave.work import ContainerWork, Works


def seal(layer: LayerReader, writer: SealingWriter) -> None:
    """Read one layer into the store, and hold it to its checks.

    What the archive's reader complains of is plaintext, and until `verify` came back it is what somebody makes of it
    who turns bits of the ciphertext over: a header moved onto a secret, whose bytes the complaint would quote. So the
    layer's own checks speak first. Of a layer that passes them, that is, which its owner made so, the host is told
    what is wrong, and not what stands there: names are the image's as much as contents.

    Raises:
        Permanent: what `layer.verify` raises; else IMAGE_MALFORMED, as the writer but without quoting.
        Temporary: what the layer's source and the writer raise.
    """
    try:
        writer.add_layer(layer)
    except Permanent as fault:
        layer.verify()
        told = fault.diagnosis
        raise Permanent(
            told.code,
            told.message,
            expected=told.expected or "a layer as image builders write it",
            got=f"something else in layer {layer.descriptor.digest}, which stays in the enclave",
            advice=told.advice,
        ) from None
    layer.verify()


class DecryptImage:
    """The transition requested -> image-decrypted of a container."""

    def __init__(
        self,
        kbs: KbsClient,
        policies: LaunchPolicies,
        registry: Registry,
        init_data: InitData,
        works: Works,
        stores: Path = Path(STORES),
    ) -> None:
        self._kbs = kbs
        self._policies = policies
        self._registry = registry
        self._init_data = init_data
        self._works = works
        self._stores = stores

    async def __call__(self, command: Command, launch: Launch) -> ImageDecrypted:
        """Raises what `image.pull.resolve`, its layers, the KBS client and the sealing writer raise.

        Of a container that is resumed also what `LaunchPolicies.get` raises.
        """
        self._works.keep({c.id for c in launch.containers.values() if c.progress.live})
        container = launch.containers[command.container]
        if container.progress.first > 1:  # resumed: what the broker once believed, and what it said, is of before
            await asyncio.to_thread(self._kbs.attest)
            await self._policies.renew()
        reference = container.requested.image
        abandoned = Event()
        decrypting = asyncio.ensure_future(asyncio.to_thread(self._decrypt, command, reference, abandoned))
        try:
            work, fact = await asyncio.shield(decrypting)
        except asyncio.CancelledError:
            # The thread goes on to the end of its layer; the next attempt may be done by then, and its work counts.
            abandoned.set()
            decrypting.add_done_callback(_wipe)
            raise
        self._works.put(command.container, work)
        return fact

    def _decrypt(self, command: Command, reference: str, abandoned: Event) -> tuple[ContainerWork, ImageDecrypted]:
        started = time.monotonic_ns()
        policy = ImagePolicy.parse(self._resource(self._init_data.image_policy))
        plan = resolve(reference, self._registry, policy, self._resource)
        writer = SealingWriter(self._stores / store_name(command.container, command.attempt))
        try:
            for layer in plan.layers():
                _check_wanted(abandoned)
                seal(layer, writer)
        except BaseException:
            writer.abort()
            raise
        return ContainerWork(plan, writer), self._fact(plan, time.monotonic_ns() - started)

    def _fact(self, plan: ImagePlan, nanoseconds: int) -> ImageDecrypted:
        return ImageDecrypted(
            reference=str(plan.reference),
            manifest_digest=plan.manifest_digest,
            policy=plan.verdict.policy_id,
            verdict=f"{plan.verdict.rule}: {plan.verdict.key_fingerprint or 'no signature asked for'}",
            key_ids=plan.key_ids,
            bytes=plan.blob_bytes,
            nanoseconds=nanoseconds,
        )

    def _resource(self, uri: str) -> bytes:
        return self._kbs.get_resource(ResourceUri.parse(uri))


def _check_wanted(abandoned: Event) -> None:
    if abandoned.is_set():
        raise Temporary(
            Code.DEADLINE,
            "nobody waits for this image any more",
            expected="a command within its deadline",
            got="one that was given up between two layers",
        )


def _wipe(decrypting: asyncio.Future[tuple[ContainerWork, ImageDecrypted]]) -> None:
    if not decrypting.cancelled() and decrypting.exception() is None:
        decrypting.result()[0].wipe()
