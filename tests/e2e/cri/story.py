"""What a kubelet does with a pod, from its image to nothing left, told as observations: a name and a few words each.

Run under two handlers it gives two tellings of one story; where they differ, the handlers do. Nothing is observed that
depends on time or on an address. An observation that cannot be made is told as the status that forbade it.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from websocket import WebSocket

from schemas.containerd import cri_pb2
from tests.e2e import streams
from tests.e2e.cri.calls import Calls, Refused
from tests.waiting import eventually

STATES = {0: "created", 1: "running", 2: "exited", 3: "unknown"}
FACTS = (
    "hostname; id -u; id -g; pwd; echo $PATH; echo $WHO; cat /proc/1/comm; cat /etc/hostname; "
    "grep -c localhost /etc/hosts; cat /etc/resolv.conf; touch /new && echo writable; cat /data/said; "
    "echo end; echo end >&2"
)
"""What a workload sees of its surroundings, a line each."""


OWN_PROCESSES = cri_pb2.NamespaceOption(pid=cri_pb2.CONTAINER)
"""A kubelet's default."""


@dataclass(frozen=True, slots=True)
class Images:
    """References: a web server, a program that says what it sees, one that says two lines and ends with 7.

    `shell` does what it reads, `count` counts the bytes that it reads, and ends with 3.
    """

    web: str
    facts: str
    talk: str
    shell: str
    count: str


class Story:
    """One telling. `told` is what was observed."""

    def __init__(self, calls: Calls, handler: str, images: Images, folder: Path) -> None:
        """`folder` is for logs and for what pods mount."""
        self._calls = calls
        self._handler = handler
        self._images = images
        self._folder = folder
        self.told: dict[str, str] = {}

    def tell(self) -> dict[str, str]:
        """The whole story."""
        self._node()
        self._image()
        pod, config = self._pod()
        web = self._container(pod, config)
        self._resources(pod, web)
        self._streams(pod, web)
        self._log(web)
        self._workloads(pod, config)
        self._terminal(pod, config)
        self._input(pod, config)
        self._end_of_container(pod, config, web)
        self._end_of_pod(pod)
        self._other_pods()
        self._image_gone()
        return self.told

    def _observe(self, name: str, look: Callable[[], object]) -> Any:
        """Tell what `look` says; it is returned if it is no refusal."""
        try:
            found = look()
        except Refused as refused:
            self.told[name] = str(refused)
            return None
        self.told[name] = found if isinstance(found, str) else "done"
        return found

    # --- the node and its images --------------------------------------------------------------------------------------

    def _node(self) -> None:
        self._observe("version", lambda: self._calls("Version").runtime_api_version)
        self._observe(
            "status", lambda: ", ".join(f"{c.type} {c.status}" for c in self._calls("Status").status.conditions)
        )
        network = cri_pb2.RuntimeConfig(network_config=cri_pb2.NetworkConfig(pod_cidr="10.9.0.0/24"))
        self._observe("runtime config updated", lambda: self._calls("UpdateRuntimeConfig", runtime_config=network))

    def _image(self) -> None:
        def pull() -> str:
            refs = {self._calls("PullImage", image=self._spec(self._images.web)).image_ref for _ in range(2)}
            return f"{len(refs)} reference, {'a digest' if refs.pop().startswith('sha256:') else 'no digest'}"

        self._observe("image pulled twice", pull)
        for other in (self._images.facts, self._images.talk, self._images.shell, self._images.count):
            self._calls("PullImage", image=self._spec(other))
        self._observe("image status", lambda: self._size(self._images.web))
        self._observe("image status of none", lambda: self._size("127.0.0.1:1/none:1"))
        self._observe("images listed", self._listed)
        self._observe(
            "image pulled that is nowhere", lambda: self._calls("PullImage", image=self._spec("localhost:1/x:1"))
        )
        self._observe("image file systems", lambda: str(len(self._calls("ImageFsInfo").image_filesystems)))

    def _listed(self) -> str:
        images = self._calls("ListImages", filter={"image": self._spec(self._images.web)}).images
        return "it is" if any(self._images.web in image.repo_tags for image in images) else "it is not"

    def _image_gone(self) -> None:
        for turn in ("removed", "removed again"):
            self._observe(f"image {turn}", lambda: self._calls("RemoveImage", image=self._spec(self._images.web)))
        self._observe("image status when removed", lambda: self._size(self._images.web))

    def _size(self, reference: str) -> str:
        status = self._calls("ImageStatus", image=self._spec(reference))
        return f"{'some' if status.image.size else 'no'} bytes" if status.HasField("image") else "absent"

    # --- a pod --------------------------------------------------------------------------------------------------------

    def _pod(self) -> tuple[str, cri_pb2.PodSandboxConfig]:
        config = self._config("story", labels={"app": "story"})
        pod: str = self._run(config)
        self._observe("pod run", lambda: "an id" if pod else "none")
        self._observe("pod run again under its name", lambda: self._run(config))
        self._observe("pod run under no such handler", lambda: self._run(self._config("other"), "no-such"))
        self._observe("pod status", lambda: self._pod_status(pod))
        self._observe("pod status of none", lambda: self._pod_status("f" * 64))
        selectors: tuple[tuple[str, dict[str, Any]], ...] = (
            ("label", {"label_selector": {"app": "story"}}),
            ("another label", {"label_selector": {"app": "else"}}),
            ("id", {"id": pod}),
            ("the start of its id", {"id": pod[:12]}),
        )
        for name, chosen in selectors:
            self._observe(
                f"pods listed by {name}", lambda f=chosen: str(len(self._calls("ListPodSandbox", filter=f).items))
            )
        return pod, config

    def _pod_status(self, pod: str) -> str:
        status = self._calls("PodSandboxStatus", pod_sandbox_id=pod).status
        state = "ready" if status.state == cri_pb2.SANDBOX_READY else "not ready"
        address = "an address" if status.network.ip else "no address"
        named = f"{status.metadata.name}, labels {dict(status.labels)}, annotations {dict(status.annotations)}"
        return f"{state}, {address}, {named}, {'its' if status.runtime_handler == self._handler else 'no'} handler"

    def _end_of_pod(self, pod: str) -> None:
        for turn in ("stopped", "stopped again"):
            self._observe(f"pod {turn}", lambda: self._calls("StopPodSandbox", pod_sandbox_id=pod))
        self._observe("pod status when stopped", lambda: self._pod_status(pod))
        self._observe("containers of a stopped pod", lambda: ", ".join(sorted(set(self._states(pod)))))
        for turn in ("removed", "removed again"):
            self._observe(f"pod {turn}", lambda: self._calls("RemovePodSandbox", pod_sandbox_id=pod))
        self._observe("pod status when removed", lambda: self._pod_status(pod))
        self._observe("containers of a removed pod", lambda: str(len(self._states(pod))))
        self._observe("pod stopped that is none", lambda: self._calls("StopPodSandbox", pod_sandbox_id="f" * 64))

    def _other_pods(self) -> None:
        """What a pod may ask of its host."""

        def run(name: str, **options: Any) -> str:
            config = self._config(name)
            config.linux.security_context.namespace_options.CopyFrom(cri_pb2.NamespaceOption(**options))
            if options.get("network") == cri_pb2.NODE:
                config.hostname = ""  # as a kubelet does: it is the host's
            pod = self._run(config)
            try:
                return "runs"
            finally:
                self._calls("StopPodSandbox", pod_sandbox_id=pod)
                self._calls("RemovePodSandbox", pod_sandbox_id=pod)

        self._observe("pod in the host's network", lambda: run("host-network", network=cri_pb2.NODE))
        self._observe("pod whose containers share processes", lambda: run("one-pid", pid=cri_pb2.POD))

    # --- a container --------------------------------------------------------------------------------------------------

    def _container(self, pod: str, config: cri_pb2.PodSandboxConfig) -> str:
        self._observe("container of no image", lambda: self._create(pod, config, "none", "localhost:1/none:1"))
        web: str = self._create(pod, config, "web", self._images.web, labels={"tier": "front"})
        self._observe("container created", lambda: self._status(web))
        self._observe(
            "container created again under its name", lambda: self._create(pod, config, "web", self._images.web)
        )
        self._observe("container created in no pod", lambda: self._create("f" * 64, config, "x", self._images.web))
        self._observe("container started", lambda: self._calls("StartContainer", container_id=web))
        self._observe("container status", lambda: self._status(web))
        self._observe("container started again", lambda: self._calls("StartContainer", container_id=web))
        self._observe("container status of none", lambda: self._status("f" * 64))
        address = self._calls("PodSandboxStatus", pod_sandbox_id=pod).status.network.ip
        self._observe("what the web server answers", lambda: _fetched(f"http://{address}:8080/"))
        self._observe("containers listed by label", lambda: str(len(self._states(pod, {"tier": "front"}))))
        self._observe("containers listed by another label", lambda: str(len(self._states(pod, {"tier": "back"}))))
        return web

    def _status(self, container: str) -> str:
        status = self._calls("ContainerStatus", container_id=container).status
        times = [name for name in ("created_at", "started_at", "finished_at") if getattr(status, name)]
        return f"{STATES[status.state]}, {status.reason or 'no reason'}, exit {status.exit_code}, {' '.join(times)}"

    def _states(self, pod: str, labels: Mapping[str, str] | None = None) -> list[str]:
        chosen = {"pod_sandbox_id": pod, "label_selector": labels or {}}
        return [STATES[found.state] for found in self._calls("ListContainers", filter=chosen).containers]

    def _resources(self, pod: str, container: str) -> None:
        def used(stats: cri_pb2.ContainerStats) -> str:
            parts = (stats.cpu.usage_core_nano_seconds.value, stats.memory.working_set_bytes.value)
            return f"{'some' if parts[0] else 'no'} processor time, {'some' if parts[1] else 'no'} memory"

        self._observe("container stats", lambda: used(self._calls("ContainerStats", container_id=container).stats))
        self._observe("container stats of none", lambda: self._calls("ContainerStats", container_id="f" * 64))
        chosen = {"pod_sandbox_id": pod}
        self._observe("container stats listed", lambda: used(*self._calls("ListContainerStats", filter=chosen).stats))
        self._observe(
            "pod stats",
            lambda: f"{len(self._calls('PodSandboxStats', pod_sandbox_id=pod).stats.linux.containers)} container",
        )
        self._observe(
            "pod stats listed", lambda: str(len(self._calls("ListPodSandboxStats", filter={"id": pod}).stats))
        )
        limits = cri_pb2.LinuxContainerResources(cpu_shares=512)
        self._observe(
            "limits updated", lambda: self._calls("UpdateContainerResources", container_id=container, linux=limits)
        )

    def _streams(self, pod: str, container: str) -> None:
        def done() -> str:
            reply = self._calls("ExecSync", container_id=container, cmd=["/bin/echo", "there"], timeout=30)
            return f"exit {reply.exit_code}, {reply.stdout!r}"

        def url(name: str, **fields: Any) -> str:
            return "a URL" if self._calls(name, **fields).url.startswith("http://127.0.0.1:") else "no URL"

        self._observe("command run", done)
        wanted = {"container_id": container, "stdout": True, "stderr": True}
        self._observe("command streamed", lambda: url("Exec", cmd=["/bin/true"], **wanted))
        self._observe("attached", lambda: url("Attach", **wanted))
        self._observe("port forwarded", lambda: url("PortForward", pod_sandbox_id=pod, port=[8080]))
        self._observe("port forwarded of no pod", lambda: url("PortForward", pod_sandbox_id="f" * 64, port=[8080]))

    def _log(self, container: str) -> None:
        def reopened() -> str:
            path = Path(self._calls("ContainerStatus", container_id=container).status.log_path)
            path.rename(path.with_suffix(".old"))
            self._calls("ReopenContainerLog", container_id=container)
            return "a new file" if path.exists() else "none"

        self._observe("log reopened", reopened)

    def _workloads(self, pod: str, config: cri_pb2.PodSandboxConfig) -> None:
        talk = self._ended(pod, config, "talk", self._images.talk)
        self._observe("what a program says", lambda: self._said(talk))
        self._observe("how it ended", lambda: self._status(talk))
        self._observe("log reopened of what has ended", lambda: self._calls("ReopenContainerLog", container_id=talk))
        self._observe("ended container started", lambda: self._calls("StartContainer", container_id=talk))
        self._observe("ended container removed", lambda: self._calls("RemoveContainer", container_id=talk))
        data = self._folder / "data"
        data.mkdir()
        (data / "said").write_text("host's file\n")
        for name, word, more in (
            ("nothing more", "end", {}),
            (
                "a host's folder",
                "host's file",
                {"mounts": [cri_pb2.Mount(container_path="/data", host_path=str(data))]},
            ),
            ("another variable", "kubelet", {"envs": [cri_pb2.KeyValue(key="WHO", value=b"kubelet")]}),
            ("another command", "end", {"command": ["/bin/echo", "end"]}),
            ("a terminal", "end", {"tty": True}),
        ):
            self._observe(f"container with {name}", partial(self._variant, pod, config, name, word, more))

    def _terminal(self, pod: str, config: cri_pb2.PodSandboxConfig) -> None:
        """A terminal of the workload's own: attached to, resized, typed into."""
        shell = self._create(pod, config, "shell", self._images.shell, tty=True, stdin=True)
        self._calls("StartContainer", container_id=shell)
        self._said(shell, ("stdout",), end="ready")
        with self._attached(shell, tty=True, stdin=True, stdout=True) as connection:
            size = json.dumps({"Width": 132, "Height": 43}).encode()
            connection.send_binary(bytes([streams.SIZE]) + size)
            came = streams.said(connection)
            screen = b""
            while b"43 132" not in screen:
                screen += next(came)[1]
            connection.send_binary(bytes([streams.INPUT]) + b"test -t 0 && test -t 1 && test -t 2 && echo $TERM\n")
            while b"xterm" not in screen:
                screen += next(came)[1]
            connection.send_binary(bytes([streams.INPUT]) + b"exit 5\n")
            screen += b"".join(piece for stream, piece in came if stream == streams.OUTPUT)
        eventually(lambda: self._status(shell).startswith("exited"))
        self._observe("what a terminal shows", lambda: str(screen))
        self._observe("what a terminal's log holds", lambda: self._said(shell, ("stdout",), end="exit 5"))
        self._observe("how a terminal's program ended", lambda: self._status(shell))

    def _input(self, pod: str, config: cri_pb2.PodSandboxConfig) -> None:
        """Standard input whose first writer's end is its end."""
        count = self._create(pod, config, "count", self._images.count, stdin=True, stdin_once=True)
        self._calls("StartContainer", container_id=count)
        with self._attached(count, stdin=True, stdout=True, stderr=True) as connection:
            connection.send_binary(bytes([streams.INPUT]) + b"x" * 10_000)
        eventually(lambda: self._status(count).startswith("exited"))
        self._observe("what was read from standard input", lambda: self._said(count, ("stdout",), end="10000"))
        self._observe("how its reader ended", lambda: self._status(count))

    def _attached(self, container: str, **wanted: bool) -> AbstractContextManager[WebSocket]:
        return streams.connected(self._calls("Attach", container_id=container, **wanted).url)

    def _variant(
        self, pod: str, config: cri_pb2.PodSandboxConfig, name: str, word: str, more: Mapping[str, Any]
    ) -> str:
        ended = self._ended(pod, config, name.replace(" ", "-"), self._images.facts, **more)
        said = self._said(ended, ("stdout",) if {"command", "tty"} & more.keys() else ("stdout", "stderr"))
        return said if not more else f"says {word}" if f" F {word}" in said else f"does not say {word}"

    def _ended(self, pod: str, config: cri_pb2.PodSandboxConfig, name: str, image: str, **more: Any) -> str:
        container = self._create(pod, config, name, image, **more)
        try:
            self._calls("StartContainer", container_id=container)
        except Refused:
            self._calls("RemoveContainer", container_id=container)
            raise
        eventually(
            lambda: self._calls("ContainerStatus", container_id=container).status.state == cri_pb2.CONTAINER_EXITED
        )
        return container

    def _said(self, container: str, of: Sequence[str] = ("stdout", "stderr"), end: str = "end") -> str:
        """Its log's lines without their times; containerd copies them a moment later than it ends, `end` last."""
        path = Path(self._calls("ContainerStatus", container_id=container).status.log_path)
        eventually(lambda: all(f" {stream} F {end}\n" in path.read_text() for stream in of))
        return " | ".join(sorted(line.split(" ", 1)[1] for line in path.read_text().splitlines()))

    def _end_of_container(self, pod: str, config: cri_pb2.PodSandboxConfig, web: str) -> None:
        for turn in ("stopped", "stopped again"):
            self._observe(f"container {turn}", lambda: self._calls("StopContainer", container_id=web, timeout=1))
        self._observe("container status when stopped", lambda: self._status(web))
        self._observe("container stats when stopped", lambda: self._calls("ContainerStats", container_id=web))
        for turn in ("removed", "removed again"):
            self._observe(f"container {turn}", lambda: self._calls("RemoveContainer", container_id=web))
        self._observe("container stopped that is none", lambda: self._calls("StopContainer", container_id="f" * 64))
        again = self._create(pod, config, "web", self._images.web, attempt=1)
        self._observe("container restarted", lambda: self._calls("StartContainer", container_id=again))
        self._observe("running container removed", lambda: self._calls("RemoveContainer", container_id=again))

    # --- requests -----------------------------------------------------------------------------------------------------

    def _spec(self, reference: str) -> cri_pb2.ImageSpec:
        return cri_pb2.ImageSpec(image=reference, runtime_handler=self._handler)

    def _config(self, name: str, labels: Mapping[str, str] | None = None) -> cri_pb2.PodSandboxConfig:
        metadata = cri_pb2.PodSandboxMetadata(name=name, namespace="default", uid=str(uuid4()))
        logs = self._folder / f"{name}-{metadata.uid}"
        logs.mkdir()
        return cri_pb2.PodSandboxConfig(
            metadata=metadata,
            hostname=name,
            log_directory=str(logs),
            labels=labels or {},
            annotations={"note": "kept"},
            dns_config=cri_pb2.DNSConfig(servers=["10.9.9.9"]),
            linux=cri_pb2.LinuxPodSandboxConfig(security_context={"namespace_options": OWN_PROCESSES}),
        )

    def _run(self, config: cri_pb2.PodSandboxConfig, handler: str = "") -> str:
        run = self._calls("RunPodSandbox", config=config, runtime_handler=handler or self._handler)
        return str(run.pod_sandbox_id)

    def _create(
        self, pod: str, sandbox: cri_pb2.PodSandboxConfig, name: str, image: str, attempt: int = 0, **more: Any
    ) -> str:
        config = cri_pb2.ContainerConfig(
            metadata=cri_pb2.ContainerMetadata(name=name, attempt=attempt),
            image=self._spec(image),
            log_path=f"{name}-{attempt}.log",
            linux=cri_pb2.LinuxContainerConfig(security_context={"namespace_options": OWN_PROCESSES}),
            **more,
        )
        created = self._calls("CreateContainer", pod_sandbox_id=pod, config=config, sandbox_config=sandbox)
        return str(created.container_id)


def _fetched(url: str) -> str:
    def ask() -> str | None:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return str(answer.read().decode().strip())
        except OSError:
            return None

    return eventually(ask)
