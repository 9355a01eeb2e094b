"""create_sandbox: runc creates and starts the pod's pause container from containerd's own bundle, or a borrowed one.

Zone: host. May import: `workers.host`, `orchestrator.{events,faults,launch}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from orchestrator.events import Command, SandboxCreated
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch
from workers.host.borrowed import sandbox_bundle
from workers.host.conmon import Streams
from workers.host.runc import Held, Role, Runc


class CreateSandbox:
    """The transition requested -> sandbox."""

    def __init__(self, runc: Runc, pod_dir: Callable[[str], Path]) -> None:
        """`pod_dir` says where a pod's small files lie: a fork's bundle is made there."""
        self._runc = runc
        self._pod_dir = pod_dir

    async def __call__(self, command: Command, launch: Launch) -> SandboxCreated:
        """Raises Permanent(SANDBOX_HOST_NETWORK, SANDBOX_NOT_CREATED, RUNTIME)."""
        bundle = Path(launch.requested.bundle if launch.requested else "")
        if launch.forked is not None:
            bundle = sandbox_bundle(bundle, self._pod_dir(command.pod) / "sandbox", command.pod)
        netns = "" if launch.forked is not None else network_namespace(bundle)
        status, pid = await self._runc.known(command.pod)
        if status != "running":
            if status != "absent" or self._runc.traces(command.pod):
                await self._runc.discard(command.pod)
            held = Held(command.pod, command.pod, "", Role.PAUSE, command.attempt)
            pid = await self._runc.create(held, bundle, Streams())
            await self._runc.start(command.pod)
        return SandboxCreated(runc_id=command.pod, pid=pid, netns=netns or f"/proc/{pid}/ns/net")


def network_namespace(bundle: Path) -> str:
    """The path of the network namespace that the CRI made for the pod, from the bundle's config.json."""
    try:
        document = json.loads((bundle / "config.json").read_text())
        namespaces = document["linux"]["namespaces"]
        networks = [namespace.get("path", "") for namespace in namespaces if namespace.get("type") == "network"]
        path = "".join(networks[:1])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Permanent(
            Code.SANDBOX_NOT_CREATED,
            "the sandbox's bundle cannot be read",
            expected=f"config.json with linux.namespaces in {bundle}",
            got=type(error).__name__,
            advice="the bundle is containerd's; see its log for this sandbox",
        ) from error
    if not path:
        raise Permanent(
            Code.SANDBOX_HOST_NETWORK,
            "the pod shares the node's network",
            expected="a network namespace of the pod's own",
            got="one without a path" if networks else "hostNetwork",
            advice="remove hostNetwork from the pod: its agent listens on the pod's loopback",
        )
    return path
