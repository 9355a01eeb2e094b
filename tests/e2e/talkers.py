"""Workloads that count: each numbers its lines, says how many they were, and ends with a status of its own on demand.

The host signals their first process: SIGTERM ends one, SIGUSR1 has it say how many lines it wrote and wait, SIGUSR2 has
it go on. So what was written is known exactly, whoever was killed meanwhile, and can be held to what was kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import select
import signal
import subprocess
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import images, registry
from deploy.local.cri import ContainerSpec, ContainerState, Kubelet, Pod
from tests.e2e.cluster import Cluster
from tests.waiting import eventually

BURST = 10
"""Lines at once, twice a second."""

TALK = b"""n=0
trap end=1 TERM
trap halt=1 USR1
trap halt= USR2
while [ ! "$end" ]; do
  if [ "$halt" ]; then
    [ "$said" ] || echo "halted after $n"
    said=1
  else
    said=
    for _ in 1 2 3 4 5 6 7 8 9 10; do n=$((n+1)); echo "line $n"; done
  fi
  sleep 0.5 & wait $!
done
echo "ended after $n"
exit $1
"""
STREAM = b"""n=0
while [ $n -lt $1 ]; do n=$((n+1)); echo "piece $n"; cat /block; done
exit 7
"""
STREAM_STATUS = 7
PIECE = 1_000_000
_LINE = re.compile(r"^\S+ stdout F (line|halted after|ended after) ([0-9]+)$")


@dataclass(frozen=True, slots=True)
class Images:
    """The workload's image, published for enclaves and plain for runc; what a stream of so many pieces is."""

    sealed: str
    plain: str
    block: bytes

    def stream(self, pieces: int) -> tuple[int, str]:
        """Its length in bytes, and its SHA-256."""
        digest, length = hashlib.sha256(), 0
        for number in range(1, pieces + 1):
            for part in (f"piece {number}\n".encode(), self.block):
                digest.update(part)
                length += len(part)
        return length, digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Spoken:
    """A log: the numbers of its lines in their order, and how many lines it was said to have, each time it was."""

    lines: tuple[int, ...]
    halts: tuple[int, ...]
    end: int | None

    @property
    def said(self) -> int:
        """How many lines it has written, by its own last word about that."""
        return self.end if self.end is not None else (self.halts or (0,))[-1]

    @property
    def whole(self) -> bool:
        """Whether every line up to the last is there, once, in order."""
        return self.lines == tuple(range(1, len(self.lines) + 1))


@dataclass(slots=True)
class Talker:
    """One pod with one container that talks; `code` is the status it will end with, `process` its first one's pidfd."""

    pod: Pod
    container: str
    code: int
    process: int
    log: Path
    ended: list[str] = field(default_factory=list)
    """Containers of the pod that have ended before this one."""

    def tell(self, number: signal.Signals) -> None:
        """Signal its first process, which may have ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, number)

    @property
    def is_over(self) -> bool:
        """Whether its first process has ended, whoever knows it by now."""
        looked = select.poll()
        looked.register(self.process, select.POLLIN)
        return bool(looked.poll(0))

    def spoken(self) -> Spoken:
        """What its log holds by now."""
        found: dict[str, list[int]] = {"line": [], "halted after": [], "ended after": []}
        for line in self.log.read_text().splitlines():
            if matched := _LINE.match(line):
                found[matched[1]].append(int(matched[2]))
        ends = found["ended after"]
        return Spoken(tuple(found["line"]), tuple(found["halted after"]), ends[0] if ends else None)


class Talkers:
    """Starts them under one handler, and says what became of them."""

    def __init__(self, cluster: Cluster, kubelet: Kubelet, reference: str) -> None:
        """`kubelet` has the handler; the image of `reference` is one that `publish` made."""
        self._cluster = cluster
        self._kubelet = kubelet
        self._reference = reference
        self._codes = iter(range(10, 250))

    def start(self, name: str) -> Talker:
        """A pod, and its first container."""
        pod = self._kubelet.run_pod(name)
        return self._talk(pod, [])

    def again(self, talker: Talker) -> Talker:
        """Another container in the pod of one that has ended, as a kubelet restarts it."""
        return self._talk(talker.pod, [*talker.ended, talker.container])

    def status(self, container: str) -> tuple[ContainerState, int]:
        """What containerd says of a container."""
        status = self._kubelet.container_status(container)
        return status.state, status.exit_code

    def has_ended(self, talker: Talker) -> bool:
        """Whether containerd says that it ended with its own status."""
        return self.status(talker.container) == (ContainerState.EXITED, talker.code)

    def runs(self, talker: Talker) -> bool:
        """Whether containerd says that it runs, in a pod that is ready."""
        ready = self._kubelet.pod_status(talker.pod).ready
        return ready and self.status(talker.container)[0] is ContainerState.RUNNING

    def _talk(self, pod: Pod, ended: list[str]) -> Talker:
        code = next(self._codes)
        command = ("/bin/sh", "/talk", str(code))
        container = self._kubelet.create_container(pod, ContainerSpec(f"c{len(ended)}", self._reference, command))
        self._kubelet.start_container(container)
        log = self._kubelet.container_status(container).log
        talker = Talker(pod, container, code, _process(self._cluster, container), log, ended)
        eventually(lambda: talker.spoken().lines)  # from here on it takes signals
        return talker


def publish(cluster: Cluster) -> Images:
    """Make the image; the owner's policy admits its talk, with any status, and the command that streams."""
    block = secrets.token_bytes(PIECE)
    files = {"talk": TALK, "stream": STREAM, "block": block}
    layout = images.busybox(files, command=("/bin/sh", "/talk", "0"))
    cluster.owner.publish(str(layout), "talk:1")
    number = {"pattern": "[0-9]{1,4}"}
    policies = cluster.owner.policies
    document = json.loads(policies.launch_policy.read_text())
    (rule,) = [rule for rule in document["rules"] if rule["image"].endswith("/talk")]
    rule |= {"args": ["/bin/sh", "/talk", number]}
    rule |= {"name": "talk", "exec": [{"name": "stream", "args": ["/bin/sh", "/stream", number]}]}
    policies.launch_policy.write_text(json.dumps(document))
    with closing(cluster.owner.admin()) as broker:
        policies.put(broker)
    return Images(cluster.reference("talk:1"), registry.push(cluster.layout, layout, "plain-talk:1"), block)


def halted(talkers: Iterable[Talker]) -> None:
    """Have each say how many lines it wrote, wait until its log says so, and leave it silent."""
    before = [(talker, len(talker.spoken().halts)) for talker in talkers]
    for talker, _ in before:
        talker.tell(signal.SIGUSR1)
    for talker, halts in before:
        eventually(lambda talker=talker, halts=halts: _has_halted(talker, halts))


def _has_halted(talker: Talker, halts: int) -> bool:
    # Again, because a shell takes two signals that wait for it in the order of their numbers: an older SIGUSR2 last.
    talker.tell(signal.SIGUSR1)
    return len(talker.spoken().halts) > halts


def resumed(talkers: Iterable[Talker]) -> None:
    """Have them go on."""
    for talker in talkers:
        talker.tell(signal.SIGUSR2)


def _process(cluster: Cluster, container: str) -> int:
    """Its first process on this host, whichever shim it has: a pidfd, which never means another one."""
    command = ["ctr", "--address", str(cluster.layout.containerd), "--namespace", "k8s.io", "tasks", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    return os.pidfd_open(next(int(line.split()[1]) for line in listed.splitlines() if line.startswith(container)))
