"""The acts of the demo, in order. Each does what a person would do by hand, and says what it sees.

Zone: it plays every part. May import: `deploy`, `orchestrator`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from deploy.local import images
from deploy.local.cri import ContainerSpec, Kubelet, Pod
from deploy.local.demo import tampering, watching
from deploy.local.demo.report import HistoryVerdict, Report, StateReached, TamperedLaunch
from deploy.local.demo.workload import ask_container, ask_redis
from deploy.local.owner import Owner
from deploy.local.stack import Stack
from deploy.publish.publication import Published
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch, Passed
from orchestrator.verify import verify

Say = Callable[[str], None]
REPOSITORY = "demo:latest"
SETTLES_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Launched:
    """A pod of the demo and its container."""

    pod: Pod
    container: str


class Demo:
    """One run. `act` says that an act begins, `say` tells what is seen within it."""

    def __init__(self, image: str | None, act: Say, say: Say) -> None:
        self._image = image
        self._act = act
        self._say = say
        self.report = Report()
        self.stack: Stack | None = None

    def run(self) -> Stack:
        """Everything up to, not including, taking the stack down. Raises Fault when an act fails."""
        self._act("A node of its own: bus, registry, key broker, simulated CPU, orchestrator, worker, containerd")
        stack = self.stack = Stack.create(f"demo-{secrets.token_hex(2)}")
        stack.up(self._say)
        published = self._publish(stack)
        launched = self._launch(stack, published)
        self._ask(stack, launched)
        self._verify(stack, launched)
        self._tamper(stack, published)
        return stack

    def down(self, stack: Stack) -> None:
        """Take everything away, and look whether it is."""
        self._act("Nothing is left behind")
        self.report.left_behind = stack.down(self._say)
        for trace in self.report.left_behind:
            self._say(f"left behind: {trace}")

    def _publish(self, stack: Stack) -> Published:
        self._act("The owner encrypts, signs and publishes the image; its key goes to the key broker only")
        if self._image is None:
            self._say("building a Debian userland with redis-server from packages (cached after the first time)")
        image = self._image or str(images.redis())
        published = Owner(stack.layout).publish(image, REPOSITORY)
        self.report.image = str(published.reference)
        self._say(f"published {published.reference}, key {', '.join(published.kids)}")
        return published

    def _launch(self, stack: Stack, published: Published) -> Launched:
        self._act("A pod is launched through the CRI with runtime handler enclave-cc")
        reference = f"{published.reference.repository}:{REPOSITORY.partition(':')[2]}"
        with ThreadPoolExecutor(1) as kubelet:
            running = kubelet.submit(_run, _kubelet(stack), reference, "demo")
            launch = asyncio.run(_watched(stack, "demo", self._tell, running))
        if launch is not None:
            self.report.pod = launch.pod
            _raise_failure(launch)
        return running.result()

    def _tell(self, passed: Passed) -> None:
        reached = StateReached(passed.state.value, round(passed.nanoseconds / 1e6, 1))
        self.report.states.append(reached)
        self._say(f"{reached.state:<18}{reached.ms:>9.1f} ms")

    def _ask(self, stack: Stack, launched: Launched) -> None:
        self._act("The workload answers, through the pod's network")
        kubelet = _kubelet(stack)
        if self._image is None:
            answer = ask_redis(kubelet.pod_status(launched.pod).ip, "demo")
        else:
            answer = ask_container(kubelet, launched.container)
        self.report.workload = answer
        for question, said in answer.checks:
            self._say(f"{question}: {said}")

    def _verify(self, stack: Stack, launched: Launched) -> None:
        self._act("The history is verified: chain, signatures, and the quote under the simulated root")
        history = asyncio.run(watching.read(stack.credentials("reader"), launched.pod.id))
        pki = stack.layout.root / "cpu/pki"
        root, collateral = (pki / "root.der").read_bytes(), (pki / "collateral.json").read_text()
        verified = verify(launched.pod.id, history, root_der=root, collateral=collateral)
        self.report.history = HistoryVerdict(
            True, verified.facts, verified.signed, verified.proved, verified.not_proved
        )
        for line in verified.proved:
            self._say(line)
        for line in verified.not_proved:
            self._say(f"not proved: {line}")

    def _tamper(self, stack: Stack, published: Published) -> None:
        self._act("One bit of the image is changed in the registry, and it is launched again")
        digest = published.reference.digest or ""
        layer = tampering.top_layer(stack.layout, digest)
        with tampering.flipped_byte(tampering.blob_path(stack.layout, layer)) as offset:
            self._say(f"bit 0 of byte {offset} of layer {layer}")
            reference = f"{published.reference.repository}:{REPOSITORY.partition(':')[2]}"
            with ThreadPoolExecutor(1) as kubelet:
                running = kubelet.submit(_run, _kubelet(stack), reference, "tampered")
                launch = asyncio.run(_watched(stack, "tampered", lambda _: None, running))
        failure = launch.failure if launch else None
        if launch is None or failure is None or running.exception() is None:
            raise Permanent(
                Code.INTERNAL, "an altered image was not refused", expected="a refused launch", got="no failure"
            )
        text = failure.diagnosis.text()
        self.report.tampered = TamperedLaunch(failure.state.value, failure.diagnosis.code.value, text)
        self._say(f"failed in state {failure.state}, transition {failure.transition}")
        for line in text.splitlines():
            self._say(line)
        _kubelet(stack).remove_pod(launch.pod)


def _kubelet(stack: Stack) -> Kubelet:
    return Kubelet(stack.layout.containerd, handler="enclave-cc", log_directory=stack.layout.logs / "pods")


def _run(kubelet: Kubelet, reference: str, name: str) -> Launched:
    kubelet.pull(reference)
    pod = kubelet.run_pod(name)
    container = kubelet.create_container(pod, ContainerSpec("app", reference))
    kubelet.start_container(container)
    return Launched(pod, container)


async def _watched(stack: Stack, name: str, tell: Callable[[Passed], None], running: Future[Launched]) -> Launch | None:
    """The settled launch; None when containerd refused before there was one, which `running` then tells."""
    watch = asyncio.create_task(watching.watch(stack.credentials("reader"), name, tell))
    over = asyncio.wrap_future(running)
    either: tuple[asyncio.Future[Launch] | asyncio.Future[Launched], ...] = (watch, over)
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not watch.done() and over.exception() is not None:
        # What is in the history already is told at once; what is not will never be.
        await asyncio.wait([watch], timeout=SETTLES_SECONDS)
    if not watch.done() and over.done() and over.exception() is not None:
        watch.cancel()
        await asyncio.wait([watch])
        return None
    return await watch


def _raise_failure(launch: Launch) -> None:
    if launch.failure is not None:
        d = launch.failure.diagnosis
        raise Permanent(d.code, d.message, expected=d.expected, got=d.got, advice=d.advice)
