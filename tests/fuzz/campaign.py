"""Storms until the time is over: one shim after the other on one bus, each followed by an inventory.

    python -m tests.fuzz.campaign [--seconds 600] [--seed N] [--first SESSION] [--rounds 30]

A session is one pod's shim. What it is sent is drawn from the seed and the session's number, so a failure is repeated
by `--seed N --first SESSION` alone; what the scheduler makes of concurrent calls is not. Every other shim is a
zygote's child. Of three sessions two are steady: their sandbox stays for several rounds, so that what a round leaves
behind can be counted. In the third the sandbox itself is stormed, and the shim may be asked to end.

After each session, beyond the rules of `storm`:

6. The history folds, and no fact of the shim's is one that the fold passes over.
7. Descriptors, threads and children are back where they were after the first round; memory grows by no more than
   containers that a pod has had are remembered by, and a second series of crowds needs no more of it than the first.
8. No mount is left, no process, no socket.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import structlog

from orchestrator.bus import Bus, Histories
from orchestrator.events import Recorded
from orchestrator.faults import Permanent
from orchestrator.fold import fold
from schemas.containerd import task_pb2 as pb
from schemas.containerd import types_pb2
from tests.fuzz import bundles, stormed_shim
from tests.fuzz.fickle_node import STEADY, FickleNode
from tests.fuzz.storm import PATIENCE, Broken, ask, end, rage
from tests.fuzz.stormed_shim import Size, StormedShim
from tests.fuzz.traffic import Stage, Traffic, crowd
from tests.simulators import guarded_bus
from workers.host.node import ENVIRONMENT as NODE_CONFIG
from workers.host.node import load
from workers.host.shim.start import ZYGOTE
from workers.host.shim_door import serve_shims

AS_IN_A_STACK: Final = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "2"}
"""Large buffers go back to the kernel: what stays is held."""

SHORT: Final = 6
LONG: Final = 30
"""Rounds of a steady session, in the suite and where there is time: a leak shows in the long ones."""

WARM_UP: Final = 2
"""Rounds before memory is compared: modules are imported, pools filled, the largest frame has come once."""

CROWDS: Final = 4
"""One after the other, and as many again. These may need `CROWD_KIB` more: a hundred bytes a request would be seen."""
CROWD_KIB: Final = 768

CONTAINERS: Final = 5
SLACK_KIB: Final = 3072
CONTAINER_KIB: Final = 8
"""Memory that a pod's shim may keep for each container that the pod has had: its place in the launch."""


@dataclass
class Told:
    """What a campaign has done."""

    sessions: int = 0
    rounds: int = 0
    facts: int = 0
    ended: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    growth_kib: int = 0

    def __str__(self) -> str:
        statuses = ", ".join(f"{count} of {status}" for status, count in sorted(self.answers.items()))
        return (
            f"{self.sessions} shims, {self.rounds} rounds, {self.answers.total()} answers (status: {statuses}), "
            f"{self.facts} facts folded, {self.ended} shims asked to end; memory grew by at most {self.growth_kib} KiB"
        )


class Campaign:
    """Sessions on one bus. `run` them in order, from any number on."""

    def __init__(self, folder: Path, seed: int, reader: Bus, environment: Mapping[str, str], rounds: int) -> None:
        self._folder = folder
        self._rounds = rounds
        self._seed = seed
        self._histories = Histories(reader)
        self._environment = environment
        self._pod = ""
        self.told = Told()

    async def run(self, sessions: Iterable[int], seconds: float) -> None:
        """Begin sessions, by their numbers, for so long. Raises Broken, naming seed and session."""
        ends = time.monotonic() + seconds
        for number in sessions:
            try:
                await self._session(number)
            except Broken as broken:
                said = (
                    f"seed {self._seed}, session {number}: {broken}\nthe history ends:\n{await self._end_of_history()}"
                )
                raise Broken(said) from broken
            self.told.sessions += 1
            if time.monotonic() > ends:
                return

    async def _session(self, number: int) -> None:
        steady = number % 3 != 2
        pod = f"{STEADY if steady else 'loose'}-{self._seed}-{number}"
        folder, self._pod = self._folder / pod, pod
        made = bundles.write(folder, pod)
        (folder / "mountable").mkdir()
        environment = dict(self._environment)
        if number % 2:
            environment[ZYGOTE] = "/nowhere"
        try:
            async with stormed_shim.started(self._folder, made["sandbox"], pod, environment) as shim:
                containers = [f"again-{place}" for place in range(2)]
                stage = Stage(pod, containers, made, folder / "mountable", steady)
                await (self._steady(shim, stage, number) if steady else self._loose(shim, stage, number))
            await self._check_history(pod)
            if told := shim.events.out_of_order():
                raise Broken(f"rule 5: {told}")
        finally:
            left = _unmount(folder)
        if left:
            raise Broken(f"rule 8: mounts are left: {left}")

    async def _steady(self, shim: StormedShim, stage: Stage, number: int) -> None:
        """Several rounds in a sandbox that lives, then the sandbox's end and the shim's."""
        rootfs = [types_pb2.Mount(type="tmpfs", source="tmpfs", options=["size=64k"])]
        create = pb.CreateTaskRequest(id=stage.pod, bundle=str(stage.bundles["sandbox"]), rootfs=rootfs)
        for name, request, reply in (
            ("Create", create, pb.CreateTaskResponse),
            ("Start", pb.StartRequest(id=stage.pod), pb.StartResponse),
        ):
            if status := await ask(shim, name, request, reply):
                raise Broken(f"the sandbox did not come up: {name} answered {status}; {shim.log()[-3:]}")
        sizes, kept = [], 0
        for turn in range(self._rounds):
            chance = random.Random(f"{self._seed}/{number}/{turn}")
            fresh = [f"c{turn}-{place}" for place in range(CONTAINERS - 2)]
            here = Stage(stage.pod, [*stage.containers, *fresh], stage.bundles, stage.mountable, steady=True)
            self.told.answers += await rage(shim, Traffic(chance, here).scripts(), here.containers)
            if not shim.alive():
                raise Broken(f"rule 3: the shim has ended; {shim.log()[-5:]}")
            self.told.rounds += 1
            sizes.append(await _settled(shim, sizes[0] if sizes else None))
            kept += CONTAINERS * (turn >= WARM_UP)
        grown = sizes[-1].anonymous - max(size.anonymous for size in sizes[: WARM_UP + 1])
        self.told.growth_kib = max(self.told.growth_kib, grown)
        if grown > SLACK_KIB + kept * CONTAINER_KIB:
            raise Broken(f"rule 7: memory grows, KiB: {[size.anonymous for size in sizes]}")
        await self._crowded(shim, sizes[0])
        await end(shim, stage.pod)
        await self._shut_down(shim)

    async def _crowded(self, shim: StormedShim, before: Size) -> None:
        """Rule 7 for crowds: a crowd leaves room for the next one, and that needs no more."""
        needed = []
        for _ in range(2 * CROWDS):
            self.told.answers += await rage(shim, [crowd(lawful=True)], ())
            needed.append((await _settled(shim, before)).anonymous)
        if not shim.alive():
            raise Broken(f"rule 3: the shim has ended; {shim.log()[-5:]}")
        if max(needed[CROWDS:]) - max(needed[:CROWDS]) > CROWD_KIB:
            raise Broken(f"rule 7: memory grows with each crowd, KiB: {needed}")

    async def _loose(self, shim: StormedShim, stage: Stage, number: int) -> None:
        """One round in which everything goes; the shim may end by it, orderly. Then what containerd runs at the end."""
        chance = random.Random(f"{self._seed}/{number}")
        ended = (*stage.containers, stage.pod)
        self.told.answers += await rage(shim, Traffic(chance, stage).scripts(), ended)
        self.told.rounds += 1
        await self._shut_down(shim)
        stormed_shim.delete(self._folder, stage.bundles["sandbox"], stage.pod, self._environment)

    async def _shut_down(self, shim: StormedShim) -> None:
        """Rule 3."""
        await ask(shim, "Shutdown", pb.ShutdownRequest(id="x", now=True), pb.ConnectResponse)
        ends = time.monotonic() + PATIENCE
        while shim.alive():
            if time.monotonic() > ends:
                raise Broken("rule 3: the shim did not end when it was asked to")
            await asyncio.sleep(0.01)
        if Path(shim.path).exists() or shim.defects():
            left = "its socket is left" if Path(shim.path).exists() else ""
            raise Broken(f"rule 3: the shim did not end by itself; {left} {shim.defects() or shim.log()[-5:]}")
        self.told.ended += 1

    async def _check_history(self, pod: str) -> None:
        """Rule 6."""
        history = await self._histories.read(pod)
        self.told.facts += len(history)
        try:
            launch = fold(pod, history)
        except Permanent as fault:
            raise Broken(f"rule 6: the fold refuses the history: {fault.diagnostics()}") from fault
        actors = {fact.index: fact.fact.actor for fact in history if isinstance(fact, Recorded)}
        passed = [entry for entry in launch.ignored if actors.get(entry.index, "shim/").startswith("shim/")]
        if passed:
            raise Broken(f"rule 6: the fold passes over the shim's facts: {passed}")

    async def _end_of_history(self) -> str:
        history = await self._histories.read(self._pod)
        facts = [message.fact for message in history[-30:] if isinstance(message, Recorded)]
        return "\n".join(f"{fact.container or 'the pod'} {fact.attempt}: {fact.body}"[:200] for fact in facts)


async def _settled(shim: StormedShim, before: Size | None) -> Size:
    """Rule 7, what is counted in pieces: connections end a moment after their last answer."""
    ends = time.monotonic() + PATIENCE
    while True:
        size = shim.size()
        if before is None or all(now <= then for now, then in zip(size.held(), before.held(), strict=True)):
            return size
        if time.monotonic() > ends:
            raise Broken(f"rule 7: {before} has become {size}")
        await asyncio.sleep(0.05)


def _unmount(folder: Path) -> list[str]:
    """Take away what is mounted below `folder` and name it: nothing may be deleted through a mount."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    below = sorted((target for target in mounts if target.startswith(f"{folder}/")), reverse=True)
    for target in below:
        subprocess.run(["umount", "--lazy", target], check=True)
    return below


@asynccontextmanager
async def prepared(folder: Path, seed: int, rounds: int) -> AsyncIterator[Campaign]:
    """A bus, a node, a zygote, and the campaign over them. `folder` has a short path."""
    async with guarded_bus.running(folder) as bus, contextlib.AsyncExitStack() as stack:
        worker, orchestrator, reader = [
            await stack.enter_async_context(await bus.enter(role)) for role in ("worker", "orchestrator", "reader")
        ]
        runs = (FickleNode(worker, orchestrator, str(seed)).run(), serve_shims(load(bus.node_file)))
        serving = [asyncio.create_task(run) for run in runs]
        address = folder / "zygote.sock"
        environment = {**os.environ, **AS_IN_A_STACK, ZYGOTE: str(address), NODE_CONFIG: str(bus.node_file)}
        zygote = subprocess.Popen(
            [sys.executable, "-m", "workers.host.shim.zygote", "--address", address], env=environment
        )
        try:
            while not address.exists():
                await asyncio.sleep(0.02)
            yield Campaign(folder, seed, reader, environment, rounds)
        finally:
            zygote.kill()
            zygote.wait()
            while left := [task for task in serving if not task.done()]:
                for task in left:
                    task.cancel()
                await asyncio.wait(left, timeout=0.2)


async def storm(seed: int, sessions: Iterable[int], *, seconds: float = float("inf"), rounds: int = SHORT) -> Told:
    """A whole campaign in a folder of its own. Raises Broken."""
    with tempfile.TemporaryDirectory(prefix="ecc-") as temporary:
        async with prepared(Path(temporary), seed, rounds) as campaign:
            await campaign.run(sessions, seconds)
        return campaign.told


def main() -> int:
    """0 when every rule held."""
    parser = argparse.ArgumentParser(prog="just fuzz-ttrpc", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="sessions are begun for so long (default 600)")
    parser.add_argument("--seed", type=int, help="what everything is drawn from (default: a new one)")
    parser.add_argument("--rounds", type=int, default=LONG, help=f"of a steady session (default {LONG})")
    parser.add_argument("--first", type=int, default=0, metavar="SESSION", help="the session to begin with")
    wanted = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if wanted.seed is None else wanted.seed
    print(f"seed {seed}", flush=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    try:
        print(asyncio.run(storm(seed, count(wanted.first), seconds=wanted.seconds, rounds=wanted.rounds)))
    except Broken as broken:
        print(broken, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
