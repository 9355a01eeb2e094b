"""`enclave-cc logs LAUNCH CONTAINER`: what a container wrote, opened with its owner's key and checked.

Zone: owner. May import: `click`, `orchestrator.{cli,fold,launch,output}`, the standard library.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click

from orchestrator.cli.output_printing import Bytes, Documents, Lines
from orchestrator.cli.sources import source
from orchestrator.cli.subcommand import (
    VERIFICATION_FAILED,
    Subcommand,
    answers_json,
    reads_the_bus,
    takes_a_launch,
)
from orchestrator.faults import Code, Permanent
from orchestrator.fold import fold
from orchestrator.launch import Container, Launch
from orchestrator.output import kubelet, lines
from orchestrator.output.lines import LogLine
from orchestrator.output.opening import Finding, Opened, Opening, Text
from orchestrator.output.recipient import RecipientKey

INTERRUPTED: Final = 130
KUBELETS: Final = Path("/var/log/pods")
_LOOK_SECONDS: Final = 0.2
_STANDARD_INPUT: Final = "-"


@click.command(cls=Subcommand)
@takes_a_launch()
@click.argument("container", metavar="CONTAINER")
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False), help="The private key of a recipient (JWK).")
@click.option("--file", "file", metavar="FILE", help="The log file; - for standard input. [default: the kubelet's]")
@click.option(
    "--log-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=KUBELETS,
    show_default=True,
    help="Where the kubelet keeps its pods' logs.",
)
@click.option("--follow", "following", is_flag=True, help="Go on as it is written, until its end or Ctrl-C.")
@click.option("--bare", is_flag=True, help="What was written alone, byte for byte, without times and streams.")
@answers_json
@reads_the_bus
def logs(
    launch: str,
    container: str,
    key: Path | None,
    file: str | None,
    log_dir: Path,
    config: Path | None,
    stack: str | None,
    *,
    following: bool,
    bare: bool,
    as_json: bool,
) -> None:
    """Print what a container wrote. Where its output is sealed, open it with --key and check that nothing is missing.

    LAUNCH is as for `show`; CONTAINER is a container's name (the newest of that name) or the beginning of its id. What
    is wrong with a sealed output is told on standard error, and ends with exit code 4.
    """
    if following and file == _STANDARD_INPUT:
        raise click.UsageError("--follow needs a file")
    found = source(launch, config, stack)
    told = fold(found.pod, found.messages)
    meant = container_of(told, container)
    opening = _opening(meant, key)
    path = Path(file) if file else kubelet.log_of(told, meant, log_dir)
    printer = Documents() if as_json else Bytes() if bare else Lines()
    wrong = 0
    try:
        for each in _opened(_lines(path, following=following), opening, following=following):
            wrong += isinstance(each, Finding)
            printer.tell(each)
        if opening is not None and _is_over(told, meant):
            for finding in opening.finish():
                wrong += 1
                printer.tell(finding)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        printer.close()
    if wrong:
        sys.exit(VERIFICATION_FAILED)


def container_of(launch: Launch, asked: str) -> Container:
    """The container that is meant. Raises Permanent(NOT_FOUND, INPUT)."""
    if named := [each for each in launch.containers.values() if each.requested.name == asked]:
        return named[-1]
    begun = [each for id_, each in launch.containers.items() if asked and id_.startswith(asked)]
    if len(begun) == 1:
        return begun[0]
    raise Permanent(
        Code.INPUT if begun else Code.NOT_FOUND,
        f"{asked!r} is {len(begun) or 'no'} containers of this launch" if begun else f"there is no container {asked!r}",
        expected="one of " + ", ".join(each.requested.name or id_ for id_, each in launch.containers.items())[:1000],
        got=asked[:200],
        advice="`enclave-cc show` lists a launch's containers",
    )


def _opening(container: Container, key: Path | None) -> Opening | None:
    """None for an output that is not sealed."""
    delivered = container.delivered
    if delivered is None or not delivered.output_head_sha256:
        return None
    if key is None:
        raise Permanent(
            Code.INPUT,
            "the output is sealed for its owner",
            expected=f"--key FILE, the private key of one of {', '.join(delivered.output_key_ids)}"[:2000],
            got="no key",
            advice="the owner's key reads it; without one `kubectl logs` shows the records as they are",
        )
    return Opening(RecipientKey.read(key), delivered.output_head_sha256)


def _is_over(launch: Launch, container: Container) -> bool:
    """Whether the workload has ended, as far as the history tells: before that, an end is not missing."""
    return container.progress.exit is not None or container.progress.torn_down or not launch.progress.live


def _opened(found: Iterable[LogLine], opening: Opening | None, *, following: bool) -> Iterator[Opened]:
    for line in found:
        if opening is None:
            yield Text(line.at, line.stream, line.content + b"\n")
            continue
        yield from opening.feed(line)
        if following and opening.ended:
            return  # nothing comes after an end that the workload could have written


def _lines(path: Path, *, following: bool) -> Iterator[LogLine]:
    try:
        if str(path) == _STANDARD_INPUT:
            yield from lines.parse(raw.removesuffix(b"\n") for raw in sys.stdin.buffer)
        elif following:
            yield from lines.parse(_awaited(path))
        else:
            yield from lines.parse(lines.read(lines.files_of(path)))
    except OSError as error:
        raise Permanent(
            Code.NOT_FOUND,
            f"{path} cannot be read",
            expected="a container's log file",
            got=error.strerror or type(error).__name__,
            advice="name it with --file, or the kubelet's directory with --log-dir",
        ) from error


def _awaited(path: Path) -> Iterator[bytes]:
    yield from lines.read(lines.files_of(path)[:-1])
    for raw in lines.follow(path):
        if raw is None:
            time.sleep(_LOOK_SECONDS)
        else:
            yield raw
