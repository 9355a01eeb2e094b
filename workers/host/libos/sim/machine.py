"""The machine's enclaves: who is one, and what each may have.

The rules, in the order in which they are checked:

1. EINIT is asked for by the host worker, by pid, while the container is created and not yet started.
2. An enclave is a pid namespace of its own; its first process is the only one that speaks for it. A process that was
   put into the namespace later (`runc exec`, `nsenter`) or that it started is not the enclave.
3. The root of that process is the root directory of a bundle that this daemon measured and mounted, and the bundle's
   image has not changed since.
4. Nothing is mounted over the bundle, except below the directories of `MOUNT_POINTS`.
5. When it asks for anything, that process runs the entry's program, with exactly its arguments and environment.
6. When its first process ends, an enclave is no more.

Rules 2 to 5 are checked again for every request: root can change a mount or a root under a process, and a mistake
there should be an error, not a wrong measurement.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Permanent
from schemas.sgx import CONFIG_ID_BYTES, KeyRequest, MalformedStructure, Report, TargetInfo
from schemas.simulated_cpu import Operation, Refusal, Refused, parse_request
from workers.host.libos.sim.collateral import QE_ATTRIBUTES, QE_MEASUREMENT
from workers.host.libos.sim.cpu import Secs, attributes_of
from workers.host.libos.sim.process import NamespaceId, Process, identity
from workers.host.libos.sim.quote import sign_quote

if TYPE_CHECKING:
    from workers.host.libos.sim.bundles import Bundle, Bundles
    from workers.host.libos.sim.cpu import Cpu
    from workers.host.libos.sim.pki import SimulatedPki

MOUNT_POINTS: Final = ("/dev", "/proc", "/sys", "/run", "/tmp", "/mnt")  # noqa: S108 - names, not files
QUOTING_ENCLAVE: Final = Secs(QE_MEASUREMENT, attributes=QE_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Enclave:
    """One initialised enclave. `namespace_fd` pins its pid namespace, so that `namespace` names no other one."""

    secs: Secs
    bundle: Bundle
    process: Process
    namespace: NamespaceId
    namespace_fd: int


class Machine:
    """A CPU, its quoting enclave, its bundles and its enclaves. Not thread-safe but for `mount`."""

    __slots__ = ("_bundles", "_cpu", "_enclaves", "_own_namespace", "_pki")

    def __init__(self, cpu: Cpu, pki: SimulatedPki, bundles: Bundles) -> None:
        self._cpu = cpu
        self._pki = pki
        self._bundles = bundles
        self._enclaves: dict[NamespaceId, Enclave] = {}
        self._own_namespace = identity(Path("/proc/self/ns/pid").stat())

    @property
    def enclaves(self) -> tuple[Enclave, ...]:
        """Those that live."""
        return tuple(self._enclaves.values())

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """Those that are mounted."""
        return self._bundles.mounted()

    def mount(self, image: Path) -> Bundle:
        """Measure and mount; see `Bundles.mount`. May take as long as hashing the image; may be called in a thread."""
        return self._bundles.mount(image)

    def einit(self, pid: int, image_sha256: str, config_id: bytes, *, debug: bool) -> Enclave:
        """Make the first process of a new pid namespace an enclave of a mounted bundle.

        The same request again is answered with the same enclave. `Permanent`: INPUT when an argument or the namespace
        does not fit or is already another enclave, NOT_FOUND for the bundle, AGENT_MEASUREMENT for another root.
        """
        bundle = self._bundles.find(image_sha256)
        secs = Secs(bundle.measurement.mrenclave, config_id, attributes_of(debug=debug))
        if len(config_id) != CONFIG_ID_BYTES:
            raise Permanent(Code.INPUT, "CONFIGID has the wrong length", expected="64 bytes", got=f"{len(config_id)}")
        try:
            process = Process.open(pid)
        except (OSError, OverflowError) as error:
            raise Permanent(Code.INPUT, "there is no such process", got=str(pid)) from error
        try:
            return self._enter(process, bundle, secs)
        except Refused as refused:
            process.close()
            raise Permanent(
                Code.AGENT_MEASUREMENT if refused.refusal is Refusal.NOT_AS_MEASURED else Code.INPUT,
                "this process cannot become an enclave of that bundle",
                expected="the first process of a new pid namespace, rooted in the bundle's mount and nothing over it",
                got=refused.reason,
                advice="enter a container after its create and before its start",
            ) from refused

    def find(self, pid: int) -> Enclave | None:
        """The enclave with that first process."""
        return next((enclave for enclave in self.enclaves if enclave.process.pid == pid), None)

    def drop(self, enclave: Enclave) -> None:
        """Forget an enclave: it gets nothing more. Nothing happens the second time."""
        if self._enclaves.get(enclave.namespace) is enclave:
            del self._enclaves[enclave.namespace]
            enclave.process.close()
            os.close(enclave.namespace_fd)

    def execute(self, caller: Process, request: bytes) -> bytes:
        """Do what an enclave asked for (`schemas.simulated_cpu`); `Refused` otherwise."""
        enclave = self._enclave_of(caller)
        operation, payload = parse_request(request)
        try:
            return self._execute(enclave.secs, operation, payload)
        except MalformedStructure as malformed:
            raise Refused(Refusal.MALFORMED, str(malformed)) from malformed

    def _execute(self, secs: Secs, operation: Operation, payload: bytes) -> bytes:
        if operation is Operation.EREPORT:
            return self._cpu.ereport(secs, TargetInfo.parse(payload[:512]), payload[512:]).encode()
        if operation is Operation.EGETKEY:
            return self._cpu.egetkey(secs, KeyRequest.parse(payload))
        if operation is Operation.QE_TARGET_INFO:
            return QUOTING_ENCLAVE.target_info().encode()
        report = Report.parse(payload)
        if not self._cpu.report_is_for(QUOTING_ENCLAVE, report):
            raise Refused(Refusal.REPORT_MAC, "the report was not made on this CPU for the quoting enclave")
        return sign_quote(self._pki, report.body.encode())

    def _enter(self, process: Process, bundle: Bundle, secs: Secs) -> Enclave:
        """Takes over `process` unless it raises."""
        with ExitStack() as undo:
            namespace_fd = process.open_pid_namespace()
            undo.callback(os.close, namespace_fd)
            namespace = identity(os.fstat(namespace_fd))
            self._check_namespace(process, namespace)
            _check_root(process, bundle)
            _check_alive(process)
            enclave = self._enclaves.get(namespace)
            if enclave is not None:
                _check_same(enclave, bundle, secs)
                undo.callback(process.close)
            else:
                enclave = self._enclaves[namespace] = Enclave(secs, bundle, process, namespace, namespace_fd)
                undo.pop_all()
            return enclave

    def _check_namespace(self, process: Process, namespace: NamespaceId) -> None:
        """Rule 2, at EINIT."""
        if namespace == self._own_namespace or process.number_in_its_namespace() != 1:
            raise Refused(Refusal.NOT_AN_ENCLAVE, f"process {process.pid} is not the first of its own namespace")

    def _enclave_of(self, caller: Process) -> Enclave:
        enclave = self._enclaves.get(caller.pid_namespace())
        if enclave is None:
            raise Refused(Refusal.NOT_AN_ENCLAVE, "the caller's pid namespace is no enclave on this machine")
        if caller.pid != enclave.process.pid:
            raise Refused(Refusal.NOT_AN_ENCLAVE, "the caller is not the enclave's first process")
        _check_root(enclave.process, enclave.bundle)
        _check_entry(enclave.process, enclave.bundle)
        _check_alive(enclave.process)
        _check_alive(caller)
        return enclave


def _check_alive(process: Process) -> None:
    """Last of all: then everything that was read in /proc was the process's own."""
    if not process.alive():
        raise Refused(Refusal.NOT_AN_ENCLAVE, f"process {process.pid} has ended")


def _check_same(enclave: Enclave, bundle: Bundle, secs: Secs) -> None:
    if enclave.bundle is not bundle or enclave.secs != secs:
        raise Refused(Refusal.NOT_AN_ENCLAVE, "the namespace is already another enclave")


def _check_root(process: Process, bundle: Bundle) -> None:
    """Rules 3 and 4."""
    if identity(process.root()) != bundle.root:
        raise Refused(Refusal.NOT_AS_MEASURED, "its root is not the measured bundle")
    if not bundle.intact():
        raise Refused(Refusal.NOT_AS_MEASURED, "the bundle's image file changed after it was measured")
    for mount in process.mounts():
        inside = any(mount.point == allowed or mount.point.startswith(f"{allowed}/") for allowed in MOUNT_POINTS)
        if not inside and mount.point != "/":
            raise Refused(Refusal.NOT_AS_MEASURED, f"something is mounted over the bundle, at {mount.point[:200]!r}")


def _check_entry(process: Process, bundle: Bundle) -> None:
    """Rule 5."""
    entry = bundle.measurement.entry
    if identity(process.program()) != bundle.program:
        raise Refused(Refusal.NOT_AS_MEASURED, "it does not run the measured program")
    if process.cmdline() != entry.cmdline():
        raise Refused(Refusal.NOT_AS_MEASURED, "its arguments are not the measured ones")
    if process.environ() != entry.environ():
        raise Refused(Refusal.NOT_AS_MEASURED, "its environment is not the measured one")
