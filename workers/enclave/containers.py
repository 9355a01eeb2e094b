"""What an agent does for its pod's containers: their four steps, and the app enclaves that come to it.

Zone: enclave. May import: `workers.enclave`, `workers.process`.

Imported late, by `agent`: images, sealed stores and launch policies are a third of all that an agent imports, and
nothing of it is needed to be attested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workers.enclave.boot_app import BootApp
from workers.enclave.decrypt_image import DecryptImage
from workers.enclave.deliver_config import DeliverConfig
from workers.enclave.door import PROXY_URL
from workers.enclave.image.registry import Registry
from workers.enclave.init_data import InitData
from workers.enclave.kbs.client import KbsClient
from workers.enclave.policy_cache import LaunchPolicies
from workers.enclave.seal_fs import SealFs
from workers.enclave.sessions import Sessions
from workers.enclave.tee.interface import Tee
from workers.enclave.work import Works
from workers.process import Step


@dataclass(frozen=True, slots=True)
class Containers:
    """The steps by name; `sessions` must be served while they run."""

    steps: Mapping[str, Step]
    sessions: Sessions


def containers(tee: Tee, kbs: KbsClient, init_data: InitData, *, debug: bool) -> Containers:
    """For the one pod of this agent. `debug`: the agent may be debugged itself."""
    works = Works()
    registry = Registry(ca_pem=init_data.registry_ca or None, proxy_url=PROXY_URL)
    policies = LaunchPolicies(kbs, init_data.launch_policy, debug=debug)
    sessions = Sessions(tee, policies, works)
    steps: dict[str, Step] = {
        "decrypt_image": DecryptImage(kbs, policies, registry, init_data, works),
        "seal_fs": SealFs(works),
        "deliver_config": DeliverConfig(kbs, policies, sessions, works),
        "boot_app": BootApp(sessions, works),
    }
    return Containers(steps, sessions)
