"""How large the bundles are, and how soon an agent listens from its bundle alone: `just bench bundle [--n 20]`.

*Listening* is what the bus says: somebody waits for this pod's orders (`num_waiting` of its consumer). By then the
agent has started, proved to itself that its init-data is the one it was started with, enrolled at its pod's door, and
logged in at the bus over TLS. The clock starts when a process that only waits is told to execute the agent.

Three kinds take turns, each in a mount namespace of its own, so that what the machine does besides meets all:

- `floor`: the bundle's interpreter as the entry starts it, but with nothing to do, until it has ended;
- `bundle`: the bundle's entry in the bundle's root, where nothing else is;
- `installed`: the same module from the environment that the bundle was built from.

Real: the image, its entry, door, bus, user and permissions. Played: the CPU, by its own code in this process, because
the real one answers no process that was not measured. Files are in the page cache, as on a node that has launched a pod
before. Writes tests/bench/results/bundle.json; ends with status 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from deploy.payload.bundle import build_bundle
from deploy.payload.closure import PROJECT
from deploy.payload.roles import BOOT, HOME
from orchestrator.bus import Bus, WorkQueue, subjects
from orchestrator.log import configure
from schemas.places import INIT_DATA, POD_FILE
from schemas.sgx import TargetInfo
from schemas.simulated_cpu import LENGTH_BYTES, SOCKET_IN_ENCLAVE, Operation, frame, frame_length, parse_request
from tests.bench import machine
from tests.bench.waterfall import Summary, summary
from tests.network import enter_new
from tests.simulators import guarded_bus
from tests.simulators.direct_tee import machine as new_cpu
from tests.simulators.guarded_bus import GuardedBus
from tests.simulators.history import NODE
from workers.enclave import init_data
from workers.host.bus_users import AgentSigner, mint_agent_user
from workers.host.doors import Answers, Door
from workers.host.libos.entry import Entry
from workers.host.libos.sim.cpu import Secs
from workers.host.libos.sim.measurement import measure_image

Ends = TypeVar("Ends")

RESULT = Path(__file__).parent / "results/bundle.json"
KINDS = ("floor", "bundle", "installed")
WARM_UP = 2
WITHIN = 30.0
LOOK = 0.002
"""Seconds between two questions to the bus: what is measured is too long by as much, never too short."""

OWNERS_WORD = """version = "0.1.0"
algorithm = "sha256"
[data]
"enclave-cc.toml" = '''
kbs_url = "https://kbs.example"
kbs_ca = {ca}
image_policy = "kbs:///default/security-policy/image"
launch_policy = "kbs:///default/launch-policy/default"
'''
"""

# The pod's files and the CPU's socket lie in one folder each, so that they can be put into any root. Nothing but the
# shell that reads a line is between the clock and the program.
START = """set -e
mount --bind "$1/run" "$2/run"
mount -t tmpfs tmpfs "$2/dev"
mkdir "$2/dev/enclave-cc"
mount --bind "$1/dev" "$2/dev/enclave-cc"
mount -t proc proc "$2/proc"
cd "$3"
shift 3
echo ready
read -r go
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Goal:
    """At most `limit`."""

    name: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        return self.value <= self.limit

    def line(self) -> str:
        return f"GOAL {self.name} {self.value:.1f} {self.limit:g} {'met' if self.met else 'missed'}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is started: its arguments, environment, and the root below which it finds what a pod is given."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    root: Path
    cwd: str
    listens: bool


def main() -> int:
    """0 when every goal was met."""
    parser = argparse.ArgumentParser(prog="just bench bundle", description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=20, help="starts of each kind that count (default 20)")
    parser.add_argument("--output", type=Path, default=RESULT)
    wanted = parser.parse_args()
    facts = machine.facts()
    # asyncio warns at every TLS connection that is closed in nats-py's way; one attempt too early is no news either.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    configure("bench", io.StringIO())
    # The doors' ports are fixed: they are free in a network of this run's own, and there only.
    enter_new()
    with tempfile.TemporaryDirectory(prefix="enclave-cc-bench-") as folder:
        sizes, times = asyncio.run(_measure(Path(folder), wanted.n))
    summaries = {kind: summary(took) for kind, took in times.items()}
    goals = [
        Goal("agent-bundle-megabytes", sizes["agent"] / 1e6, 40),
        Goal("agent-listens-ms", summaries["bundle"].median, 250),
    ]
    for name, size in sizes.items():
        print(f"{name:<10} {size:>12,} bytes")
    for kind, found in summaries.items():
        print(f"{kind:<10} {found.median:>8.1f} ms   ({found.lower:.1f} to {found.upper:.1f}, p90 {found.p90:.1f})")
    print(*(goal.line() for goal in goals), sep="\n")
    wanted.output.parent.mkdir(exist_ok=True)
    wanted.output.write_text(json.dumps(_document(facts, wanted.n, sizes, summaries, goals), indent=1) + "\n")
    return 0 if all(goal.met for goal in goals) else 1


async def _measure(folder: Path, n: int) -> tuple[dict[str, int], dict[str, list[int]]]:
    """`(bytes by bundle, nanoseconds by kind)`."""
    build_bundle(BOOT, folder / "boot.erofs")
    sizes = {name: (folder / f"{name}.erofs").stat().st_size for name in ("agent", "boot")}
    measured = measure_image(folder / "agent.erofs")
    (folder / "bus").mkdir()
    times: dict[str, list[int]] = {kind: [] for kind in KINDS}
    async with guarded_bus.running(folder / "bus") as guarded, await guarded.enter("worker") as worker:
        with _mounted(folder / "agent.erofs", folder / "root") as root:
            kinds = _kinds(measured.entry, root)
            for number in range(WARM_UP + n):
                for kind in KINDS:
                    took = await _one(folder / f"{kind}-{number}", kinds[kind], guarded, worker, measured.mrenclave)
                    if number >= WARM_UP:
                        times[kind].append(took)
    return sizes, times


def _kinds(entry: Entry, root: Path) -> dict[str, Kind]:
    interpreter = ("chroot", str(root), *entry.argv[: entry.argv.index(f"/{HOME}")])
    env = dict(entry.env)
    return {
        "floor": Kind((*interpreter, "-c", "pass"), env, root, "/", listens=False),
        "bundle": Kind(("chroot", str(root), *entry.argv), env, root, "/", listens=True),
        "installed": Kind((sys.executable, "-B", "-m", "workers.enclave.agent"), env, Path("/"), str(PROJECT), True),
    }


async def _one(folder: Path, kind: Kind, guarded: GuardedBus, worker: Bus, mrenclave: bytes) -> int:
    """Nanoseconds of one start, for a pod of its own."""
    pod = hashlib.sha256(folder.name.encode()).hexdigest()
    for name in ("run/enclave-cc", "dev"):
        (folder / name).mkdir(parents=True)
    ca_pem = (guarded.folder / "tls/ca.pem").read_text()
    (folder / POD_FILE.lstrip("/")).write_text(json.dumps({"pod": pod, "node": NODE, "bus_ca": ca_pem}))
    word = OWNERS_WORD.format(ca=json.dumps(ca_pem))
    (folder / INIT_DATA.lstrip("/")).write_text(word)
    consumer = subjects.pod_consumer(pod)
    await WorkQueue(worker).ensure_consumer(consumer, subjects.pod_commands(pod))
    secs = Secs(mrenclave, init_data.parse(word.encode()).config_id)
    async with (
        _cpu(folder / "dev" / Path(SOCKET_IN_ENCLAVE).name, secs),
        _door(pod, guarded),
        _waiting(folder, kind) as process,
    ):
        began = time.monotonic_ns()
        _end(process.stdin).write(b"go\n")
        if not kind.listens:
            await process.wait()
            return time.monotonic_ns() - began
        while not (await worker.stream.consumer_info(subjects.COMMANDS, consumer)).num_waiting:
            assert process.returncode is None, (folder / "log").read_text()
            assert time.monotonic_ns() - began < WITHIN * 1e9, (folder / "log").read_text()
            await asyncio.sleep(LOOK)
        return time.monotonic_ns() - began


@asynccontextmanager
async def _waiting(folder: Path, kind: Kind) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has everything but the word to execute `kind`; ended afterwards."""
    words = ("unshare", "--mount", "--propagation", "private", "sh", "-c", START, "sh")
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(*words, str(folder), str(kind.root), kind.cwd, *kind.argv),
            env=dict(kind.env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        ready = await _end(process.stdout).readline()
        assert ready == b"ready\n", (folder / "log").read_text()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def _door(pod: str, guarded: GuardedBus) -> AsyncIterator[None]:
    """The pod's door, as a worker opens it."""
    signer = AgentSigner.load(guarded.folder / "bus/agents.json")

    async def enroll(pod: str, nkey: str) -> dict[str, str]:
        return {"jwt": mint_agent_user(signer, nkey, pod)}

    async def process(_pod: str, _container: str) -> dict[str, object]:
        raise AssertionError("no container was asked for")

    port = int(guarded.url.rpartition(":")[2])
    door = Door(pod, ("127.0.0.1", port), frozenset(), Answers(enroll, process))
    await door.open("/proc/self/ns/net")
    try:
        yield
    finally:
        await door.close()


@asynccontextmanager
async def _cpu(socket: Path, secs: Secs) -> AsyncIterator[None]:
    """A CPU that takes whoever asks for the enclave `secs`, and makes reports."""
    cpu = new_cpu()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = frame_length(await reader.readexactly(LENGTH_BYTES), 1024)
        operation, payload = parse_request(await reader.readexactly(length))
        assert operation is Operation.EREPORT
        size = len(secs.target_info().encode())
        report = cpu.ereport(secs, TargetInfo.parse(payload[:size]), payload[size:])
        writer.write(frame(b"\0" + report.encode()))
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, socket):
        yield


@contextmanager
def _mounted(image: Path, at: Path) -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "-o", "loop,ro", image, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def _end(stream: Ends | None) -> Ends:
    assert stream is not None
    return stream


def _document(
    facts: Mapping[str, object],
    n: int,
    sizes: Mapping[str, int],
    summaries: Mapping[str, Summary],
    goals: Sequence[Goal],
) -> dict[str, object]:
    return {
        "bench": "bundle",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": facts,
        "n": n,
        "bytes": sizes,
        "unit": "ms",
        "start": {
            kind: {name: round(ms, 2) for name, ms in asdict(found).items()} for kind, found in summaries.items()
        },
        "goals": [{"name": g.name, "value": round(g.value, 2), "goal": g.limit, "met": g.met} for g in goals],
    }


if __name__ == "__main__":
    sys.exit(main())
