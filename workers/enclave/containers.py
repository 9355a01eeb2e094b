"""What an agent does for its pod's containers: their four steps, the app enclaves that come to it, what they ask later.

Zone: enclave. May import: `workers.enclave`, `workers.process`.

Imported late, by `agent`: images, sealed stores and launch policies are a third of all that an agent imports, and
nothing of it is needed to be attested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.places import STORES
from workers.enclave.boot_app import BootApp
from workers.enclave.decrypt_image import DecryptImage
from workers.enclave.deliver_config import DeliverConfig
from workers.enclave.door import PROXY_URL
from workers.enclave.execs import Execs, Tell
from workers.enclave.image.registry import Registry
from workers.enclave.image_source import ImageSource
from workers.enclave.init_data import InitData
from workers.enclave.kbs.client import KbsClient
from workers.enclave.policy_cache import LaunchPolicies
from workers.enclave.prefetch import prefetch
from workers.enclave.seal_fs import SealFs
from workers.enclave.sealed_images import SealedImages
from workers.enclave.sessions import Sessions
from workers.enclave.tee.interface import Tee
from workers.enclave.work import Works
from workers.process import Step


@dataclass(frozen=True, slots=True)
class Containers:
    """The steps by name. They work while `serve` runs."""

    steps: Mapping[str, Step]
    sessions: Sessions
    execs: Execs
    images: SealedImages
    source: ImageSource

    async def serve(self, ahead: Sequence[str]) -> None:
        """Serve app enclaves until cancelled, and meanwhile seal the images that the references `ahead` name."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.sessions.serve())
            tasks.create_task(self.execs.run())
            tasks.create_task(prefetch(ahead, self.source, self.images))


def containers(tee: Tee, kbs: KbsClient, init_data: InitData, tell: Tell, *, debug: bool) -> Containers:
    """For the one pod of this agent. `tell` stores a fact; `debug`: the agent may be debugged itself."""
    works = Works()
    registry = Registry(ca_pem=init_data.registry_ca or None, proxy_url=PROXY_URL)
    source, images = ImageSource(kbs, registry, init_data.image_policy), SealedImages(Path(STORES))
    policies = LaunchPolicies(kbs, init_data.launch_policy, debug=debug)
    sessions, execs = Sessions(tee, policies, works), Execs(tell)
    steps: dict[str, Step] = {
        "decrypt_image": DecryptImage(source, policies, images, works),
        "seal_fs": SealFs(works),
        "deliver_config": DeliverConfig(kbs, policies, sessions, works),
        "boot_app": BootApp(sessions, works, execs),
    }
    return Containers(steps, sessions, execs, images, source)
