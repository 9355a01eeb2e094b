"""The doors of all pods of a node, and what is answered at them.

Zone: host. May import: `workers.host`, `orchestrator.{bus,faults}`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from orchestrator.bus import Histories
from orchestrator.faults import Code, Permanent
from workers.host.bus_users import AgentSigner, mint_agent_user
from workers.host.doors import Answers, Door
from workers.host.node import Node
from workers.host.start_app import read_proposal

_log = structlog.get_logger()


class Gate:
    """Opens and closes pods' doors; each method may be repeated."""

    def __init__(self, node: Node, signer: AgentSigner, histories: Histories) -> None:
        url = urlsplit(node.bus_url)
        self._node = node
        self._signer = signer
        self._histories = histories
        self._bus = (url.hostname or "127.0.0.1", url.port or 4222)
        self._doors: dict[str, Door] = {}
        self._lock = asyncio.Lock()

    async def open(self, pod: str, netns: str) -> None:
        """Open both doors in the network namespace `netns`. Raises Permanent(AGENT_NOT_STARTED)."""
        async with self._lock:
            if pod in self._doors:
                return
            answers = Answers(enroll=self._enroll, process=self._process)
            door = Door(pod, self._bus, self._node.enclaves.reachable, answers)
            try:
                await door.open(netns)
            except (OSError, ValueError) as error:
                raise Permanent(
                    Code.AGENT_NOT_STARTED,
                    "the agent's doors cannot be opened in the pod's network",
                    expected=f"two free loopback ports in {netns}",
                    got=str(error),
                    advice="the network namespace is gone, or a container of the pod listens on 61440 or 61441",
                ) from error
            self._doors[pod] = door

    async def close(self, pod: str) -> None:
        """Close both doors and end what passes through them."""
        async with self._lock:
            door = self._doors.pop(pod, None)
        if door is not None:
            await door.close()

    async def close_all(self) -> None:
        """Close every pod's doors; a stopping worker's last act."""
        for pod in tuple(self._doors):
            await self.close(pod)

    def expect_agent(self, pod: str) -> None:
        """A new agent is about to start: it, and nobody after it, may ask for a bus user."""
        self._enrolled(pod).unlink(missing_ok=True)

    async def _enroll(self, pod: str, nkey: str) -> dict[str, str]:
        # The first who asks is the agent, because nothing else runs in the pod's network yet. It asks again when we die
        # before it has its answer; what a second JWT for the same key would add to the first is nothing.
        user = mint_agent_user(self._signer, nkey, pod)
        if _claim(self._enrolled(pod), nkey) != nkey:
            raise Permanent(
                Code.INPUT,
                "this pod's agent has its bus user already",
                expected="one enrolment a pod",
                got="another key",
                advice="only the agent talks to this door",
            )
        await _log.ainfo("agent enrolled", pod=pod)
        return {"jwt": user}

    async def _process(self, pod: str, container: str) -> dict[str, object]:
        launch = await self._histories.launch(pod)
        known = launch.containers.get(container)
        if known is None:
            raise Permanent(
                Code.NOT_FOUND,
                "no such container was requested",
                expected=f"a container of pod {pod}",
                got=container,
                advice="agent and host worker see different histories; look for a lost message",
            )
        return dict(await asyncio.to_thread(read_proposal, Path(known.requested.bundle)))

    def _enrolled(self, pod: str) -> Path:
        return self._node.pod_dir(pod) / "enrolled"


def _claim(path: Path, text: str) -> str:
    """The text of `path`: the first that was given, whole, whoever dies in between."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    mine.touch(mode=0o600)
    mine.write_text(text)
    try:
        os.link(mine, path)
    except FileExistsError:
        return path.read_text()
    finally:
        mine.unlink()
    return text
