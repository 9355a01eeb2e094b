"""The pod's images, each decrypted into one sealed store, whoever asks for it and however often.

Zone: enclave. May import: `workers.enclave`, `orchestrator.faults`.

A container that is started again, a second one of the same image, and one whose image was prefetched, find its store
made. Each gets a name of its own for it, a copy of its key, and, in its own enclave, a new upper layer: the store
itself is never written again. Who waits for an image may give up; it is gone on with, and the next one finds it.

Plaintext goes from the decryptor through the tar reader into AES-GCM units without resting anywhere. Until the last
layer's last check nobody is given the store, and until the pod ends nobody outside of an enclave its key.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event, Lock

from orchestrator.faults import Code, Permanent, Temporary
from schemas.places import image_store_name
from workers.enclave.image.layers import LayerReader
from workers.enclave.image.pull import ImagePlan
from workers.enclave.rootfs.crypto import StoreKey
from workers.enclave.rootfs.sealing import Sealed, SealingWriter


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


class SealedImage:
    """An image whose layers are all in its store, which `given_as` finishes."""

    def __init__(self, writer: SealingWriter) -> None:
        """`writer` has every layer, verified. It passes to this image."""
        self._writer = writer
        self._sealed: Sealed | None = None
        self._lock = Lock()
        self.broken = False
        """The disk refused the end of it: nobody will ever have it."""

    def given_as(self, path: Path) -> Sealed:
        """The store under another name of its own, with a copy of its key, which is the caller's to wipe.

        Raises what `SealingWriter.finish` raises; Temporary(SEAL_FAILED) where the name cannot be given.
        """
        with self._lock:
            if self._sealed is None:
                try:
                    self._sealed = self._writer.finish()
                except BaseException:
                    self.broken = True
                    raise
            sealed = self._sealed
            try:
                path.unlink(missing_ok=True)
                os.link(sealed.path, path)
            except OSError as refusal:
                raise Temporary(
                    Code.SEAL_FAILED,
                    "the sealed store cannot be named",
                    expected=f"a link {path.name} beside it",
                    got=os.strerror(refusal.errno or 0),
                    advice="look at the node's disk and its log",
                ) from refusal
            return replace(sealed, path=path, key=StoreKey(bytearray(sealed.key.material)))

    def wipe(self) -> None:
        """Forget the key, and the store if it is not finished. What was given stays. May be called again."""
        with self._lock:
            self.broken = True
            self._writer.abort()
            if self._sealed is not None:
                self._sealed.key.wipe()


class SealedImages:
    """All of this pod's, below `stores`. Call its methods in one event loop."""

    def __init__(self, stores: Path) -> None:
        self._stores = stores
        self._numbers = count(1)
        self._images: dict[tuple[str, str], asyncio.Task[SealedImage]] = {}

    async def get(self, plan: ImagePlan, generation: str = "") -> tuple[SealedImage, bool]:
        """The image, and whether it is read for this caller. Two generations of one image share nothing.

        Raises what reading and verifying its layers raises, and what the sealing writer raises; then nothing is left,
        and the next call begins anew.
        """
        key = (plan.manifest_digest, generation)
        known = self._images.get(key)
        if known is None or _is_of_no_use(known):
            task = asyncio.create_task(self._decrypt(plan))
            task.add_done_callback(_retrieved)
            self._images[key] = task
            return await asyncio.shield(task), True
        return await asyncio.shield(known), False

    async def _decrypt(self, plan: ImagePlan) -> SealedImage:
        path, abandoned = self._stores / image_store_name(next(self._numbers)), Event()
        try:
            return await asyncio.to_thread(_decrypt, plan, path, abandoned)
        except asyncio.CancelledError:
            abandoned.set()  # the agent ends; the thread goes on to the end of its layer
            raise


def _is_of_no_use(task: asyncio.Task[SealedImage]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None or task.result().broken)


def _retrieved(task: asyncio.Task[SealedImage]) -> None:
    """A fault that nobody waits for any more has been told to nobody, and is no defect."""
    if not task.cancelled():
        task.exception()


def _decrypt(plan: ImagePlan, path: Path, abandoned: Event) -> SealedImage:
    writer = SealingWriter(path)
    try:
        for layer in plan.layers():
            _check_wanted(abandoned)
            seal(layer, writer)
    except BaseException:
        writer.abort()
        raise
    return SealedImage(writer)


def _check_wanted(abandoned: Event) -> None:
    if abandoned.is_set():
        raise Temporary(
            Code.AGENT_LOST, "the agent ends", expected="an image's last layer", got="the end between two of them"
        )
