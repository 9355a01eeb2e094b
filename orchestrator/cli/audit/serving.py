"""`enclave-cc audit run`, `witness`, `keygen`: the log's writer, a witness, and their keys.

Zone: host for `run`; somebody else for `witness`. May import: `click`, `orchestrator`, `uvicorn`, the standard library.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final

import click

from orchestrator import log as logging
from orchestrator.audit.lease import sole_writer
from orchestrator.audit.log import Log
from orchestrator.audit.note import SignatureType, SigningKey
from orchestrator.audit.storage import Folder
from orchestrator.audit.witness import Witness
from orchestrator.audit.witness_client import WitnessClient
from orchestrator.audit.writer import Writer
from orchestrator.bus import connect
from orchestrator.bus.settings import BusSettings
from orchestrator.cli.audit.places import (
    load_policy,
    log_folder,
    open_store,
    read_file,
    read_note,
    reads_the_log,
    takes_a_policy,
)
from orchestrator.cli.subcommand import Subcommand, answers_json, print_json, settings_path
from orchestrator.faults import Code, Permanent

_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_LAST_PORT: Final = 65_535


@click.command(cls=Subcommand)
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The key's file, made 0600."
)
@click.option("--witness", is_flag=True, help="A witness's key: prints the verifier key of its cosignatures.")
@answers_json
def keygen(name: str, out: Path, *, witness: bool, as_json: bool) -> None:
    """Make a signing key for the log NAME (such as cluster-1.example/audit) or a witness; print its verifier key."""
    key = SigningKey.generate(name)
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Permanent(
            Code.INPUT,
            f"{out} is there already",
            expected="a new file",
            got="a file, which may be a key that signed a log",
            advice="a log keeps its key for good; choose another name for another log",
        ) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(key.secret_text())
    public = key.verifier(SignatureType.COSIGNATURE_V1 if witness else SignatureType.ED25519)
    if as_json:
        print_json({"name": name, "verifier_key": str(public), "file": str(out)})
    else:
        click.echo(str(public))


@click.command(cls=Subcommand)
@click.option("--key", type=_file, required=True, help="The log's signing key, from `audit keygen`.")
@click.option("--resume-from", type=_file, help="The last checkpoint kept anywhere, for a log whose files were lost.")
@click.option("--witness-ca", type=_file, help="The authority of witnesses that serve over TLS, PEM.")
@reads_the_log
def run(
    key: Path,
    resume_from: Path | None,
    witness_ca: Path | None,
    log: str | None,
    policy: Path | None,
    config: Path | None,
    stack: str | None,
) -> None:
    """Write the log until SIGTERM. One process at a time; it may be killed at any moment."""
    logging.configure("audit")
    signer = _key(key)
    believed, _ = load_policy(policy, config, stack)
    resumed = believed.accept(read_note(resume_from)).checkpoint if resume_from else None
    witnesses = [WitnessClient(party, str(witness_ca) if witness_ca else None) for party in believed.witnesses.values()]
    settings = BusSettings.load(settings_path(config, stack))
    folder, store = log_folder(log, config, stack), open_store(log, config, stack)

    async def write() -> None:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with await connect(settings.enter(), "audit") as bus:
            opened = Log.open_(store, signer)
            await Writer(opened, bus, believed, [w for w in witnesses if w.has_address], resumed=resumed).run()

    with sole_writer(folder) if folder else nullcontext(), suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(write())


@click.command(cls=Subcommand)
@click.option("--key", type=_file, required=True, help="The witness's signing key, from `audit keygen --witness`.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Its memory: lose it, and it would cosign anything.",
)
@click.option("--listen", default="127.0.0.1:0", show_default=True, metavar="HOST:PORT")
@click.option("--tls", type=_file, nargs=2, metavar="CERTIFICATE KEY", help="Serve over TLS: two PEM files.")
@takes_a_policy
def witness(
    key: Path,
    state: Path,
    listen: str,
    tls: tuple[Path, Path] | None,
    policy: Path | None,
    config: Path | None,
    stack: str | None,
) -> None:
    """Witness the policy's logs until SIGTERM: cosign each checkpoint that only grew (c2sp.org/tlog-witness)."""
    from orchestrator.audit.witness_web import WitnessServer  # noqa: PLC0415 - only here a server is needed

    logging.configure("witness")
    believed, _ = load_policy(policy, config, stack)
    with sole_writer(state):
        judge = Witness(Folder(state), _key(key), [party.key for party in believed.logs], time.time)
        WitnessServer(judge, *_address(listen), tls).run()


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > _LAST_PORT:
        raise Permanent(Code.INPUT, "this is no address to listen on", expected="HOST:PORT", got=listen[:200])
    return host.strip("[]"), int(port)


def _key(path: Path) -> SigningKey:
    return SigningKey.parse(read_file(path, "a signing key").decode("utf-8", "replace"))
