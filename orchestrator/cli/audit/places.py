"""Where the log lies, and whom to believe about it.

Zone: any. May import: `click`, `orchestrator.{audit,cli,faults}`, the standard library.

Unless they are named, both are found beside the file that says where the bus is (`orchestrator.cli.subcommand`): the
log in the folder `audit`, the policy in `audit.policy`. An auditor names the policy that they got from whom they trust.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from orchestrator.audit.note import Note
from orchestrator.audit.policy import Accepted, Policy
from orchestrator.audit.reader import LogReader
from orchestrator.audit.storage import Folder, Store
from orchestrator.cli.subcommand import reads_the_bus, settings_path
from orchestrator.faults import Code, Permanent

LOG: Final = "audit"
POLICY: Final = "audit.policy"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def takes_a_policy(function: _Command) -> _Command:
    """The option `--policy`: `policy` among the arguments, with `config` and `stack` to find it by."""
    option = click.option(
        "--policy",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="ENCLAVE_CC_AUDIT_POLICY",
        help="Whom to believe: the log's key and its witnesses (c2sp.org/tlog-policy). Default: beside the settings.",
    )
    return reads_the_bus(option(function))


def reads_the_log(function: _Command) -> _Command:
    """The options by which a subcommand finds a log: `log`, `policy`, `config`, `stack` among its arguments."""
    option = click.option(
        "--log",
        metavar="FOLDER|URL",
        envvar="ENCLAVE_CC_AUDIT_LOG",
        help="The log: a folder, or an object store such as s3://bucket/prefix. Default: beside the settings.",
    )
    return takes_a_policy(option(function))


@dataclass(frozen=True, slots=True)
class Opened:
    """A log whose checkpoint was accepted under a policy."""

    reader: LogReader
    policy: Policy
    policy_text: bytes
    accepted: Accepted

    @property
    def size(self) -> int:
        """How many entries the checkpoint commits to."""
        return self.accepted.checkpoint.size


def open_log(log: str | None, policy: Path | None, config: Path | None, stack: str | None) -> Opened:
    """Read and judge the checkpoint. Raises Permanent: NOT_FOUND, AUDIT_FORMAT, AUDIT_SIGNATURE, AUDIT_QUORUM."""
    reader = LogReader(open_store(log, config, stack))
    parsed, text = load_policy(policy, config, stack)
    return Opened(reader, parsed, text, parsed.accept(reader.checkpoint()))


def log_folder(log: str | None, config: Path | None, stack: str | None) -> Path | None:
    """The folder in which the log lies; None for one in an object store."""
    if log is not None and "://" in log:
        return None
    return Path(log) if log is not None else settings_path(config, stack).parent / LOG


def open_store(log: str | None, config: Path | None, stack: str | None) -> Store:
    """Where the log lies. Raises Permanent(INPUT) for a URL that names no object store."""
    folder = log_folder(log, config, stack)
    if folder is not None:
        return Folder(folder)
    from orchestrator.audit.object_store import ObjectStore  # noqa: PLC0415 - a large library, seldom needed

    return ObjectStore.at(str(log))


def load_policy(policy: Path | None, config: Path | None, stack: str | None) -> tuple[Policy, bytes]:
    """The policy and its text. Raises Permanent: NOT_FOUND when there is none, AUDIT_FORMAT.

    There is no default key: a verdict without one would be worth nothing.
    """
    raw = read_file(policy or settings_path(config, stack).parent / POLICY, "a policy: whom to believe")
    return Policy.parse(raw), raw


def read_file(path: Path, what: str) -> bytes:
    """The bytes of a file that the person named. Raises Permanent(NOT_FOUND)."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Permanent(
            Code.NOT_FOUND,
            f"there is no {what.partition(':')[0].removeprefix('a ')} to read",
            expected=f"{what}, at {path}",
            got=type(error).__name__,
            advice="name it with --policy; the log's owner publishes it" if "policy" in what else "",
        ) from error


def read_note(path: Path) -> Note:
    """A checkpoint that was kept. Raises Permanent(NOT_FOUND, AUDIT_FORMAT)."""
    return Note.parse(read_file(path, "a kept checkpoint"))
