"""A pod without a bus: containers straight from conmon and runc, behind the shim's seam, for tests of the shim itself.

There is no enclave, so nobody admits a command beside a workload: a container's root file system is the busybox
directory that the environment names. A launch fails on demand: an image reference that ends in `:denied` is one whose
signature nobody accepts, and a pod is not attested while the file `FAIL_ATTEST` exists.

`python -m tests.simulators.runc_pod SOCKET` serves such pods to shims, in the place of a node's worker.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from orchestrator.faults import Code, Permanent
from workers.host.shim.pod import ContainerRequest, ExecRequest, Exit, SandboxRequest, Streams
from workers.host.shim_door import serve_pods

ROOT = "ENCLAVE_CC_TEST_ROOTFS"
RUN_DIR = "ENCLAVE_CC_TEST_RUN_DIR"
FAIL_ATTEST = "fail-attest"
LOOK = 0.02
_NO_COMMAND = Permanent(Code.EXEC_DENIED, "the launch policy admits no command beside the workload")


class RuncPod:
    """See workers.host.shim.pod.Pod."""

    def __init__(self, sandbox: str) -> None:
        self._sandbox = sandbox
        self._home = Path(os.environ[RUN_DIR])
        self._exits = self._home / "exits"
        self._exits.mkdir(parents=True, exist_ok=True)
        self._requests: dict[str, ContainerRequest] = {}
        self._removed: dict[str, Exit] = {}

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def request_sandbox(self, request: SandboxRequest) -> int:
        return await self._run(self._sandbox, request.bundle, Streams())

    async def attested(self) -> None:
        if (self._home / FAIL_ATTEST).exists():
            raise Permanent(
                Code.ATTEST_NOT_LISTED,
                "the key broker does not know this measurement",
                expected="one of 2 listed",
                got="00ff",
                advice="list it",
            )

    async def request_container(self, request: ContainerRequest) -> None:
        if request.image.endswith(":denied"):
            raise Permanent(Code.SIGNATURE_MISSING, "the image is not signed", expected="a signature", got="none")
        self._requests[request.id] = request

    async def start_container(self, container: str) -> int:
        request = self._requests[container]
        root = Path(request.bundle) / "rootfs"
        root.mkdir(exist_ok=True)
        subprocess.run(["mount", "--bind", os.environ[ROOT], root], check=True)
        return await self._run(container, request.bundle, request.streams)

    async def exit_of(self, container: str) -> Exit:
        id_ = container or self._sandbox
        while (ended := self._ended(id_)) is None:
            await asyncio.sleep(LOOK)
        return ended

    async def signal(self, container: str, number: int, *, everything: bool) -> None:
        words = ["kill", *(["--all"] if everything else []), container or self._sandbox, str(number)]
        done = await asyncio.to_thread(self._runc, *words)
        if done.returncode:
            raise Permanent(Code.NOT_FOUND, done.stderr)

    async def remove(self, container: str, reason: str) -> None:
        id_ = container or self._sandbox
        await asyncio.to_thread(self._runc, "delete", "--force", id_)
        if container not in self._requests and container:
            self._removed[id_] = Exit(255, 0)

    async def start_exec(self, request: ExecRequest) -> int:
        raise _NO_COMMAND

    async def exit_of_exec(self, container: str, exec_id: str) -> Exit:
        raise _NO_COMMAND

    async def signal_exec(self, container: str, exec_id: str, number: int) -> None:
        raise _NO_COMMAND

    async def resize_exec(self, container: str, exec_id: str, rows: int, columns: int) -> None:
        raise _NO_COMMAND

    async def forget_exec(self, container: str, exec_id: str) -> None:
        raise _NO_COMMAND

    async def pause(self, container: str) -> None:
        await self._control("pause", container)

    async def unpause(self, container: str) -> None:
        await self._control("resume", container)

    async def limit(self, container: str, resources: bytes) -> None:
        await self._control("update", "--resources", "-", container, given=resources.decode())

    async def _control(self, verb: str, *words: str, given: str = "") -> None:
        done = await asyncio.to_thread(self._runc, verb, *words[:-1], words[-1] or self._sandbox, given=given)
        if done.returncode:
            raise Permanent(Code.RUNTIME, done.stderr)

    async def _run(self, id_: str, bundle: str, streams: Streams) -> int:
        opened = [os.open(streams.stdin or os.devnull, os.O_RDONLY | os.O_NONBLOCK)]
        opened += [os.open(path or os.devnull, os.O_RDWR) for path in (streams.stdout, streams.stderr)]
        os.set_blocking(opened[0], True)
        words = ["conmon", "--cid", id_, "--cuuid", id_, "--name", id_, "--runtime", "/usr/sbin/runc"]
        words += ["--runtime-arg", f"--root={self._home}/runc", "--bundle", bundle, "--log-path", "passthrough"]
        words += ["--container-pidfile", f"{bundle}/pid", "--exit-dir", str(self._exits)]
        report, report_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=opened[0],
                stdout=opened[1],
                stderr=opened[2],
                pass_fds=(report_end,),
                env={**os.environ, "_OCI_SYNCPIPE": str(report_end)},
            )
            await process.wait()
        finally:
            for descriptor in (*opened, report_end):
                os.close(descriptor)
        said = await asyncio.to_thread(os.read, report, 4096)
        os.close(report)
        assert b'"pid"' in said, said
        started = await asyncio.to_thread(self._runc, "start", id_)
        assert started.returncode == 0, started.stderr
        return int(Path(bundle, "pid").read_text())

    def _ended(self, id_: str) -> Exit | None:
        path = self._exits / id_
        try:
            return Exit(int(path.read_text()), path.stat().st_mtime_ns)
        except (OSError, ValueError):
            return self._removed.get(id_)

    def _runc(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = ["runc", f"--root={self._home}/runc", *words]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=30)


if __name__ == "__main__":
    asyncio.run(serve_pods(Path(sys.argv[1]), RuncPod))
