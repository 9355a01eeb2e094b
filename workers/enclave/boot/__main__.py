"""The app enclave's first process: `python -m workers.enclave.boot`, started by the measured entry of its bundle.

Zone: enclave. May import: `workers.enclave`, `orchestrator.faults`, `schemas`.

1. Attest the agent, be attested, take the configuration and the keys; take what is admitted of the host's data.
2. At the word of the agent: serve the sealed store, mount root and volumes, make the process.
3. Start it, say so, wait for its end; meanwhile start beside it what the agent admits. Leave nothing mounted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Fault, Permanent
from schemas.places import AGENT_MEASUREMENT, EXEC_DOOR, STORE, offered_at
from workers.enclave.boot import capabilities
from workers.enclave.boot.conversation import Configuration, Conversation
from workers.enclave.boot.execs import ExecDoor
from workers.enclave.boot.host_data import Taken, take
from workers.enclave.boot.process import identity_of, oci
from workers.enclave.boot.streams import WorkloadStreams
from workers.enclave.boot.supervision import Workload
from workers.enclave.boot.volumes import Volume, mount_volume
from workers.enclave.rootfs.overlay import mount_root, unmount_root
from workers.enclave.rootfs.server import start_server
from workers.enclave.rootfs.store import open_store
from workers.enclave.tee.judge import OnlyMeasurements
from workers.enclave.tee.secrets import harden
from workers.enclave.tee.sim import SimulatedTee

RUN: Final = Path("/run/enclave-cc/boot")
GRACE_SECONDS: Final = 2.0
LAST_WORDS_SECONDS: Final = 30.0
"""In which the host must have taken what a workload wrote before it ended: a containerd that restarts takes a few."""

FAILED: Final = 125
"""Exit status when the workload never ran, as container engines use it."""


def main() -> int:
    """The workload's exit status, or FAILED with the reason on standard error."""
    born = time.monotonic_ns()
    harden()
    tee = SimulatedTee()
    try:
        # A debuggable boot init may talk to a debuggable agent: neither has a secret to lose.
        debug = tee.report(tee.my_target_info(), b"").body.attributes.debug
        agent = bytes.fromhex(Path(AGENT_MEASUREMENT).read_text().strip())
        judge = OnlyMeasurements(frozenset({agent}), allow_debug=debug)
        conversation = Conversation.open(tee, judge)
    except Fault as fault:
        return _give_up(fault)
    try:
        configuration = conversation.configuration()
        taken = take(configuration.process.host_data, RUN / "host")
        conversation.accept([str(data) for data in taken])
        return _boot(configuration, taken, conversation, born)
    except Fault as fault:
        conversation.failed(fault)
        return _give_up(fault)
    except OSError as error:
        broken = Permanent(
            Code.BOOT_STORE,
            "a file or mount of the app enclave's own failed",
            expected="a writable /run and a kernel with FUSE, EROFS and overlayfs",
            got=f"{type(error).__name__} {error.errno}",
            advice="see the kernel's log",
        )
        conversation.failed(broken)
        return _give_up(broken)


def _give_up(fault: Fault) -> int:
    sys.stderr.write(fault.diagnostics() + "\n")
    sys.stderr.flush()
    # The agent's account of this, which knows more, is to come before the host's, which sees only an exit.
    time.sleep(GRACE_SECONDS)
    return FAILED


def _boot(configuration: Configuration, host_data: Sequence[Taken], conversation: Conversation, born: int) -> int:
    root, image, bundle = (RUN / name for name in ("root", "image", "bundle"))
    for directory in (root, image, bundle):
        directory.mkdir(mode=0o700, parents=True)
    with ExitStack() as undo:
        store = open_store(Path(STORE), configuration.key, configuration.root_hash)
        server = start_server(store, image)
        undo.callback(server.stop)
        # The server has its own copy of store and key; ours end here.
        store.close()
        configuration.key.wipe()
        mount_root(server.image, root, configuration.upper_bytes)
        undo.callback(unmount_root, root)
        secrets = _write_secrets(configuration)
        volumes = _mount_volumes(configuration, undo)
        binds = {data.destination: data.copy for data in host_data}
        binds |= {destination: volume.mountpoint for destination, volume in volumes.items()}
        approved = configuration.process
        capabilities.check(approved.capabilities, capabilities.own())
        workload = Workload(bundle)
        undo.callback(workload.remove)
        identity = identity_of(approved, root)
        document = oci(approved, identity, root, secrets, configuration.secrets, binds)
        console = bundle / "console" if approved.terminal else None
        streams = WorkloadStreams(console, configuration.output, (identity.uid, identity.gid))
        workload.create(document, streams.given, streams.console)
        streams.connect()
        workload.start()
        door = ExecDoor(
            Path(EXEC_DOOR),
            configuration.container,
            workload,
            document["process"],
            streams.resize,
            lambda id_, args, terminal: conversation.ask_exec(id_, args, terminal=terminal),
        )
        undo.callback(door.close)
        conversation.booted(time.monotonic_ns() - born, workload.pid)
        served_by = {server.pid, *(volume.pid for volume in volumes.values())}
        status = workload.wait(lost=lambda pid: pid in served_by)
        streams.drain(LAST_WORDS_SECONDS)
        return status


def _mount_volumes(configuration: Configuration, undo: ExitStack) -> dict[str, Volume]:
    """By their destinations. Two may be one volume: each has a mount of its own."""
    volumes = {}
    for number, mount in enumerate(configuration.process.volumes):
        volume = mount_volume(
            Path(offered_at(mount.destination)),
            RUN / "volumes" / str(number),
            configuration.volumes[mount.destination],
            read_only=mount.read_only,
        )
        undo.callback(volume.unmount)
        volumes[mount.destination] = volume
    return volumes


def _write_secrets(configuration: Configuration) -> Path:
    """One file a secret, in the container's tmpfs: enclave memory."""
    directory = RUN / "secrets"
    directory.mkdir(mode=0o700)
    for number, secret in enumerate(configuration.process.secrets):
        if secret.path:
            file = directory / str(number)
            file.touch(mode=0o600)
            file.write_bytes(configuration.secrets[secret.uri])
            file.chmod(secret.mode)
    return directory


if __name__ == "__main__":
    sys.exit(main())
