"""What a workload writes, sealed for its owner: the host's files hold records, and `enclave-cc logs` opens them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli import enclave_cc
from deploy.local import images
from deploy.local.cri import ContainerSpec, ContainerState, Pod
from orchestrator.output.recipient import RecipientKey
from tests.e2e import streams
from tests.e2e.cluster import Cluster
from tests.e2e.searching import Mark
from tests.waiting import eventually

pytestmark = pytest.mark.e2e
CURVES = ("X25519", "P-256")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The owner's two keys, in files that are nowhere below the stack."""
    folder = tmp_path_factory.mktemp("keys")
    paths = [folder / curve for curve in CURVES]
    for path, curve in zip(paths, CURVES, strict=True):
        path.write_bytes(RecipientKey.generate(curve).write())
    return paths


def publish(
    cluster: Cluster, keys: list[Path], name: str, script: str, files: dict[str, bytes] | None = None, **rule: object
) -> str:
    cluster.owner.publish(str(images.busybox(files, command=("/bin/sh", "-c", script))), f"{name}:1")
    recipients = [RecipientKey.read(path).public.jwk() for path in keys]
    cluster.amend(name, output={"sealed_for": recipients}, **rule)
    reference = cluster.reference(f"{name}:1")
    cluster.kubelet.pull(reference)
    return reference


@contextmanager
def started(cluster: Cluster, spec: ContainerSpec) -> Iterator[tuple[Pod, str]]:
    """A pod, and its container's id."""
    pod = cluster.kubelet.run_pod(spec.name)
    try:
        container = cluster.kubelet.create_container(pod, spec)
        cluster.kubelet.start_container(container)
        yield pod, container
    finally:
        cluster.remove(pod.id)


def ended(cluster: Cluster, container: str, code: int) -> Path:
    """Its log, when it has ended."""
    eventually(lambda: cluster.kubelet.container_status(container).state is ContainerState.EXITED)
    status = cluster.kubelet.container_status(container)
    assert status.exit_code == code
    return status.log


def logs(cluster: Cluster, pod: Pod, container: str, key: Path, log: Path | str, *more: str, given: str = "") -> Result:
    words = ["logs", pod.id, container, "--key", str(key), "--file", str(log), *more]
    return CliRunner().invoke(enclave_cc, [*words, "--config", str(cluster.layout.client_config)], input=given)


def test_the_hosts_log_holds_records_and_the_owner_reads_what_was_written(cluster: Cluster, keys: list[Path]) -> None:
    mark = Mark()
    # Without an end of line, since it dies in the middle of one.
    script = "cat /mark; echo oops-$(cat /mark) >&2; echo $0 >/dev/stdout; printf last; exit 7"
    reference = publish(cluster, keys, "sealed", script, {"mark": f"{mark}\n".encode()})
    with started(cluster, ContainerSpec("sealed", reference)) as (pod, container):
        log = ended(cluster, container, 7)
        raw = eventually(lambda: text if (text := log.read_text()).count(".end.") == 2 else None)
        assert str(mark) not in raw
        assert set(re.findall(r"std\w+ F (enclave-cc-output\.1|.{0,20})", raw)) == {"enclave-cc-output.1"}
        for key in keys:
            shown = logs(cluster, pod, "sealed", key, log)
            assert (shown.exit_code, shown.stderr) == (0, "")
            told = [line.split(" ", 1)[1] for line in shown.stdout.splitlines()]
            assert sorted(told) == sorted([f"stdout {mark}", f"stderr oops-{mark}", "stdout /bin/sh", "stdout last"])
        lines = raw.splitlines(keepends=True)
        forged = "2026-01-01T00:00:00.0Z stdout F not the workload's\n"
        flipped = lines[1][:-8] + ("A" if lines[1][-8] != "A" else "B") + lines[1][-7:]
        gap = [line for line in lines if ".stdout.text.1." not in line]
        for altered, code in (
            ([*lines, forged], "E-OUTPUT-002"),
            ([lines[0], flipped, *lines[2:]], "E-OUTPUT-002"),
            (gap, "E-OUTPUT-003"),
            ([*lines[:2], *lines[1:]], "E-OUTPUT-004"),
            ([line for line in lines if ".end." not in line], "E-OUTPUT-005"),
        ):
            shown = logs(cluster, pod, container[:12], keys[0], "-", given="".join(altered))
            assert shown.exit_code == 4
            assert code in shown.stderr

        told = cluster.launch_of(pod.id).containers[container].delivered
        assert told is not None
        assert told.output_key_ids == tuple(RecipientKey.read(key).public.thumbprint for key in keys)


def test_each_start_of_a_container_has_an_output_of_its_own_and_one_that_was_killed_has_no_end(
    cluster: Cluster, keys: list[Path]
) -> None:
    reference = publish(cluster, keys[:1], "again", "echo here; read word || exit 0; exit 1")
    with started(cluster, ContainerSpec("again", reference)) as (pod, first):
        mine = ended(cluster, first, 0)
        second = cluster.kubelet.create_container(pod, ContainerSpec("once-more", reference, stdin=True))
        cluster.kubelet.start_container(second)
        its = cluster.kubelet.container_status(second).log
        eventually(lambda: mine.read_text().count(".end.") == 2 and ".text.0." in its.read_text())
        running = logs(cluster, pod, second, keys[0], its, "--bare")
        assert (running.exit_code, running.stdout) == (0, "here\n")
        cluster.kubelet.stop_container(second, grace_seconds=0)
        ended(cluster, second, 137)
        killed = logs(cluster, pod, second, keys[0], its, "--bare")
        assert (killed.exit_code, killed.stdout) == (4, "here\n")
        assert killed.stderr.count("E-OUTPUT-005: the end of the output is missing") == 2
        whole = logs(cluster, pod, first, keys[0], mine, "--bare")
        assert (whole.exit_code, whole.stdout) == (0, "here\n")
        other = logs(cluster, pod, second, keys[0], mine)
        assert other.exit_code == 4
        assert "E-OUTPUT-002: a head is not of this container" in other.stderr
        stranger = logs(cluster, pod, second, keys[1], its)
        assert stranger.exit_code == 1
        assert "E-OUTPUT-001" in stranger.stderr


def test_what_a_terminal_shows_is_sealed_and_followed_to_its_end(cluster: Cluster, keys: list[Path]) -> None:
    reference = publish(cluster, keys, "screen", "printf '> '; read word; echo got $word; exit 3", terminal=True)
    with started(cluster, ContainerSpec("screen", reference, terminal=True, stdin=True)) as (pod, container):
        log = cluster.kubelet.container_status(container).log
        eventually(lambda: ".text.0." in log.read_text())  # a prompt is there before its line has an end
        with streams.connected(cluster.kubelet.attach_url(container, stdin=True, terminal=True)) as connection:
            connection.send_binary(bytes([streams.INPUT]) + b"hello\n")
            attached = b"".join(piece for stream, piece in streams.said(connection) if stream == streams.OUTPUT)
        assert b"hello" not in attached
        assert b"enclave-cc-output.1.stdout.end." in attached
        shown = logs(cluster, pod, "screen", keys[0], log, "--follow", "--json")
        assert shown.exit_code == 0
        said = [json.loads(line) for line in shown.stdout.splitlines()]
        assert "".join(each["text"] for each in said) == "> hello\r\ngot hello\r\n"
        ended(cluster, container, 3)
