"""What a dishonest host can write into a history: it may append, but it has no enclave's event key.

Each forgery waits for its moment in the launch that began last, and appends one fact as the `worker` role may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.bus import Histories, connect
from orchestrator.events import Attested, Body, Fact, ImageDecrypted, Recorded
from orchestrator.launch import Awaited, awaited
from orchestrator.lifecycle import Zone
from tests.e2e.cluster import Cluster
from tests.waiting import eventually

Forgery: TypeAlias = Callable[[Cluster], None]

DECRYPTED = ImageDecrypted(
    reference="registry.invalid/other@sha256:" + "0" * 64,
    manifest_digest="sha256:" + "0" * 64,
    policy="sha256:" + "0" * 64,
    verdict="the host says so",
    key_ids=(),
    bytes=1,
    nanoseconds=1,
)


def decrypted_by_the_hosts_key(cluster: Cluster) -> None:
    """An enclave's fact, well signed, by a key that no quote binds."""
    _state(cluster, "decrypt_image", DECRYPTED, Zone.ENCLAVE, Ed25519PrivateKey.generate())


def decrypted_by_the_host(cluster: Cluster) -> None:
    """An enclave's fact stated as the host's, to which no signature belongs."""
    _state(cluster, "decrypt_image", DECRYPTED, Zone.HOST, None)


def attested_by_another_pods_quote(cluster: Cluster) -> None:
    """A genuine quote of an earlier pod, with an event key of the host's own in place of the one that it binds."""
    key = Ed25519PrivateKey.generate()
    genuine = next(
        message.fact.body
        for history in cluster.histories().values()
        for message in history
        if isinstance(message, Recorded) and isinstance(message.fact.body, Attested)
    )
    body = replace(genuine, event_public_key=key.public_key().public_bytes_raw())
    _state(cluster, "attest", body, Zone.ENCLAVE, key)


def _state(cluster: Cluster, transition: str, body: Body, zone: Zone, key: Ed25519PrivateKey | None) -> None:
    pod, step = eventually(lambda: _newest_awaiting(cluster, transition))
    fact = Fact(pod, body, zone, "agent/forged", container=step.container, attempt=step.attempt)

    async def append() -> None:
        async with await connect(cluster.stack.credentials("worker"), "a dishonest host") as bus:
            await Histories(bus).append(fact, sign=key.sign if key else None)

    asyncio.run(append())


def _newest_awaiting(cluster: Cluster, transition: str) -> tuple[str, Awaited] | None:
    launch = cluster.newest_launch()
    return next(((launch.pod, step) for step in awaited(launch) if step.transition.name == transition), None)
