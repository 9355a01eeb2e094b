"""What the agent keeps in enclave memory between a container's steps: its image, its store, its key.

Zone: enclave. May import: `workers.enclave`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from schemas.recipients import Recipient
from workers.enclave.image.pull import ImagePlan
from workers.enclave.launch_policy.document import ExecRule
from workers.enclave.rootfs.sealing import Sealed
from workers.enclave.sealed_images import SealedImage


@dataclass(slots=True)
class ContainerWork:
    """One container's. `plan` is admitted; `sealed` has its own copy of the store's key; `delivered` is one-shot.

    `rule` is the rule of the launch policy that admitted its process, `execs` what may run beside that, `recipients`
    who reads its output.
    """

    plan: ImagePlan
    image: SealedImage
    sealed: Sealed | None = None
    delivered: bool = False
    rule: str = ""
    execs: tuple[ExecRule, ...] = ()
    recipients: tuple[Recipient, ...] = ()

    def wipe(self) -> None:
        """Forget the container's copy of the key. May be called again."""
        if self.sealed is not None:
            self.sealed.key.wipe()


@dataclass(slots=True)
class Works:
    """All containers' works of this pod."""

    _works: dict[str, ContainerWork] = field(default_factory=dict)

    def put(self, container: str, work: ContainerWork) -> None:
        """Replaces, and wipes, what an earlier attempt left."""
        self.drop(container)
        self._works[container] = work

    def get(self, container: str) -> ContainerWork | None:
        """None when its image was not decrypted by this agent."""
        return self._works.get(container)

    def keep(self, containers: Collection[str]) -> None:
        """Wipe and forget what is of any other container: what failed or was removed is not told to an agent."""
        for gone in self._works.keys() - set(containers):
            self.drop(gone)

    def drop(self, container: str) -> None:
        """Wipe and forget."""
        work = self._works.pop(container, None)
        if work is not None:
            work.wipe()
