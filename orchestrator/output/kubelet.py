"""Where a kubelet keeps a container's log: `<directory>/<namespace>_<pod>_<uid>/<container>/<restart>.log`.

Zone: owner. May import: `orchestrator.{faults,launch,output}`, `schemas`, the standard library. Source: Kubernetes,
pkg/kubelet/kuberuntime/helpers.go, BuildContainerLogsDirectory.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.faults import Code, Permanent
from orchestrator.launch import Container, Launch
from orchestrator.output import lines
from orchestrator.output.opening import is_sealed
from schemas.sealed_output import Head, Kind, Record
from schemas.strict_json import Malformed


def log_of(launch: Launch, container: Container, directory: Path) -> Path:
    """The log file of a container: of the start whose head is this container's, else the last.

    Raises Permanent(NOT_FOUND).
    """
    asked = launch.requested
    pod = f"{asked.namespace}_{asked.name}_{asked.uid}" if asked else launch.pod
    folder = directory / pod / container.requested.name
    written = sorted((path for path in folder.glob("*.log") if path.stem.isdigit()), key=lambda path: int(path.stem))
    sealed = container.delivered is not None and container.delivered.output_head_sha256
    fitting = [path for path in written if not sealed or _first_container(path) == container.id]
    if fitting:
        return fitting[-1]
    raise Permanent(
        Code.NOT_FOUND,
        "there is no log of this container",
        expected=f"a file in {folder}",
        got=f"{len(written)} of other containers" if written else "none",
        advice="name the file with --file, or the kubelet's directory with --log-dir",
    )


def _first_container(path: Path) -> str:
    """Whose output the first head in a log says that it is: which file to read, and no proof of anything."""
    for line in lines.parse(lines.read(lines.files_of(path))):
        if is_sealed(line):
            try:
                record = Record.parse(line.content.decode("ascii"))
                if record.kind is Kind.HEAD:
                    return Head.decode(record.content).container
            except (Malformed, UnicodeDecodeError):
                continue
    return ""
