"""The payload, as it is built from this tree: the same each time, read by others' tools, run where there is nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from deploy.node import payload as node_payload
from deploy.payload.contents import Contents, opened, verify_measurements
from deploy.payload.difference import differences
from deploy.payload.host import PROGRAMS
from deploy.payload.image import Payload, build_payload
from deploy.payload.pushing import push
from deploy.payload.vouched import signed_by
from deploy.publish.cosign_key import SigningKey
from orchestrator.faults import Code, Permanent
from tests.imported import images_of
from tests.simulators.docker_registry import DockerRegistry
from workers.enclave.image.reference import parse_reference
from workers.enclave.image.registry import Registry

LARGEST_HOST = 72_000_000
"""Bytes of the node's software, unpacked."""

LARGEST_IMAGE = 62_000_000
"""Bytes that a node fetches."""

AGENT = "bundles/sim/agent.erofs"


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("payload") / "layout"


@pytest.fixture(scope="module")
def built(layout: Path) -> Payload:
    return build_payload(layout)


@pytest.fixture(scope="module")
def root(layout: Path, built: Payload) -> Path:
    """The image's root, as umoci unpacks it."""
    bundle = layout.with_name("unpacked")
    subprocess.run(
        ["umoci", "unpack", "--image", f"{layout}:{built.version}", bundle], check=True, capture_output=True, timeout=60
    )
    return bundle / "rootfs"


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The root once more, its files shared: replace them, do not write into them."""
    subprocess.run(["cp", "-al", root, tmp_path / "copy"], check=True)
    return tmp_path / "copy"


def read(folder: Path) -> Contents:
    with opened(str(folder), Registry(ca_pem=None, credentials=None)) as contents:
        verify_measurements(contents)
        return contents


def test_a_build_elsewhere_under_another_clock_and_configuration_gives_the_same_digest(
    built: Payload, tmp_path: Path
) -> None:
    """The bundles' part of it, from nothing, is test_bundle's."""
    for name in ("node.toml", "client.toml"):
        (tmp_path / name).write_text("of a user's")
    strange = {
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "SOURCE_DATE_EPOCH": "1",
        "PYTHONHASHSEED": "7",
        "ENCLAVE_CC_NODE_CONFIG": str(tmp_path / "node.toml"),
        "ENCLAVE_CC_CONFIG": str(tmp_path / "client.toml"),
        "HOME": str(tmp_path),
    }
    told = subprocess.run(
        [Path(sys.executable).with_name("enclave-cc"), "payload", "build", "--unlocked", tmp_path / "a" / "layout"],
        env={**os.environ, **strange},
        umask=0o077,
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    assert re.findall(r"sha256:[0-9a-f]{64}", told.stdout) == [built.digest, built.index]


def test_skopeo_reads_it(layout: Path, built: Payload) -> None:
    shown = json.loads(
        subprocess.run(
            ["skopeo", "inspect", f"oci:{layout}:{built.version}"], capture_output=True, text=True, check=True
        ).stdout
    )
    assert shown["Architecture"] == "amd64"
    assert shown["Labels"]["io.enclave-cc.measurement.sim.agent"] == built.measurements["agent"]


def test_containerd_imports_it(layout: Path, built: Payload, tmp_path: Path) -> None:
    listed = images_of(layout, "enclave-cc/payload", tmp_path)
    assert f"enclave-cc/payload:{built.version}" in listed
    assert built.index in listed
    assert "linux/amd64" in listed


@pytest.mark.parametrize("program", [program.name for program in PROGRAMS] + ["conmon"])
def test_the_nodes_programs_start_where_there_is_nothing_but_the_payload(root: Path, program: str) -> None:
    """No shell, no Python, no C library: the payload, /proc and /dev. Found by path, in a root that is not its own."""
    elsewhere = root.parent / "node"
    script = (
        f"mkdir -p {elsewhere}/opt/x {elsewhere}/proc {elsewhere}/dev && mount --rbind {root} {elsewhere}/opt/x && "
        f"mount -t proc proc {elsewhere}/proc && mount --rbind /dev {elsewhere}/dev && "
        f'exec chroot {elsewhere} /opt/x/host/bin/{program} "$@"'
    )
    flag = "-v" if program.startswith("containerd-shim") else "--help"
    ran = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", flag],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if program == "enclave-cc-worker":
        # It has no options: it gets as far as looking for the node's configuration.
        assert "/etc/enclave-cc/node.toml" in ran.stderr
    else:
        assert ran.returncode == 0, ran.stderr
    assert "/usr/lib" not in ran.stderr


def test_every_program_stays_in_its_payload(root: Path) -> None:
    """Interpreter, modules and libraries are all below the payload; and a child that it starts is the same."""
    asked = (
        "import subprocess, sys, ssl, json; here = [m.split()[-1] for m in open('/proc/self/maps') if '.so' in m];"
        "child = subprocess.run([sys.executable, '-c', 'import ssl, sys; print(sys.prefix)'], capture_output=True);"
        "print(json.dumps([sys.path, here, sys.executable, child.stdout.decode().strip()]))"
    )
    told = subprocess.run([root / "host/bin/python3.11", "-c", asked], capture_output=True, text=True, check=True)
    path, mapped, executable, child = json.loads(told.stdout)
    assert [place for place in (*path, *mapped, executable, child) if not place.startswith(str(root / "host"))] == []


def test_what_installs_a_node_is_there_and_takes_the_payload(root: Path, built: Payload) -> None:
    subprocess.run([root / "host/bin/enclave-cc", "node", "install", "--help"], check=True, capture_output=True)
    taken = node_payload.read(root, built.digest)
    node_payload.verify(taken, root)
    assert taken.measurements == {"sim": built.measurements}


def test_a_program_of_a_node_has_no_subcommand_of_a_stack(root: Path) -> None:
    assert not (root / "host/lib/python3.11/deploy/local").exists()
    assert not (root / "host/lib/python3.11/deploy/kbs").exists()


@pytest.mark.parametrize("command", ["kbs", "payload", "up", "launches"])
def test_a_command_that_a_node_has_not_says_so_with_a_code(root: Path, command: str) -> None:
    ran = subprocess.run([root / "host/bin/enclave-cc", command], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("E-INPUT-004: ")
    assert f"`enclave-cc {command}`" in ran.stderr
    assert "try: " in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_node_fetches_and_holds_no_more_than_planned(layout: Path, root: Path) -> None:
    assert sum(path.stat().st_size for path in (root / "host").rglob("*") if path.is_file()) <= LARGEST_HOST
    assert sum(path.stat().st_size for path in (layout / "blobs/sha256").iterdir()) <= LARGEST_IMAGE


def test_no_configuration_is_in_it(root: Path, tmp_path: Path) -> None:
    """Beside host and bundles the documents alone; of a bundle's /etc, what is the same for everybody."""
    assert {path.name for path in root.iterdir()} == {"payload.json", "sbom.spdx.json", "bundles", "host"}
    own = {"enclave-cc/enclave.json", "group", "hosts", "nsswitch.conf", "passwd"}
    for name, more in (("agent", set()), ("boot", {"enclave-cc/agent.mrenclave"})):
        inside = tmp_path / name
        subprocess.run(
            ["fsck.erofs", f"--extract={inside}", root / f"bundles/sim/{name}.erofs"], check=True, capture_output=True
        )
        etc = inside / "etc"
        assert {str(path.relative_to(etc)) for path in etc.rglob("*") if path.is_file()} == own | more
        filled = {path.name for path in inside.iterdir() if any(path.iterdir())}
        assert filled - {"sbin"} == {"bin", "etc", "lib", "lib64", "opt", "usr"}


def test_the_sbom_names_every_package_with_its_version(root: Path) -> None:
    document = json.loads((root / "sbom.spdx.json").read_text())
    assert document["spdxVersion"] == "SPDX-2.3"
    assert document["dataLicense"] == "CC0-1.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"])
    ids = [package["SPDXID"] for package in document["packages"]]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if not re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", name)] == []
    for package in document["packages"]:
        assert package.keys() >= {"name", "versionInfo", "downloadLocation"}, package
    ends = {end for r in document["relationships"] for end in (r["spdxElementId"], r["relatedSpdxElement"])}
    assert ends == {*ids, "SPDXRef-DOCUMENT"}
    versions = {package["name"]: package["versionInfo"] for package in document["packages"]}
    assert versions["cryptography"] == metadata.version("cryptography")
    assert (
        versions["libssl3"]
        == subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", "libssl3"], capture_output=True, text=True, check=True
        ).stdout
    )
    told = {r["relatedSpdxElement"] for r in document["relationships"] if r["spdxElementId"] == "SPDXRef-Part-agent"}
    assert {"SPDXRef-deb-libssl3", "SPDXRef-pypi-cryptography"} <= told
    assert "SPDXRef-deb-conmon" not in told


def replace(path: Path, content: bytes) -> None:
    mode = path.stat().st_mode
    path.unlink()
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.parametrize("what", ["changed", "added", "missing", "mode", "link"])
def test_a_payload_that_is_not_what_it_says_is_refused(copy: Path, what: str) -> None:
    victim = copy / "host/bin/conmon"
    content = victim.read_bytes()
    match what:
        case "changed":
            replace(victim, content[:-1] + b"!")
        case "added":
            (copy / "host/etc-passwd").write_bytes(b"")
        case "missing":
            victim.unlink()
        case "mode":
            replace(victim, content)
            victim.chmod(0o4755)
        case _:
            victim.unlink()
            victim.symlink_to("enclave-cc")
    with pytest.raises(Permanent) as refused:
        read(copy)
    assert refused.value.code is Code.INPUT


def rewrite(folder: Path, path: str, measurement: str = "") -> None:
    """payload.json as it would be with what now lies at `path`; its measurement, where one is given."""
    document = json.loads((folder / "payload.json").read_text())
    digest = subprocess.run(["sha256sum", folder / path], capture_output=True, text=True, check=True).stdout.split()[0]
    for record in document["files"]:
        if record["path"] == path:
            record |= {"sha256": digest, "size": (folder / path).stat().st_size}
    if measurement:
        document["bundles"]["sim"]["agent"]["measurement"] = measurement
    replace(folder / "payload.json", json.dumps(document).encode())


def test_a_bundle_that_measures_to_something_else_is_refused(copy: Path, built: Payload) -> None:
    replace(copy / AGENT, (copy / "bundles/sim/boot.erofs").read_bytes())
    rewrite(copy, AGENT)
    with pytest.raises(Permanent) as refused:
        read(copy)
    assert refused.value.code is Code.AGENT_MEASUREMENT
    assert refused.value.diagnosis.expected == built.measurements["agent"]
    assert refused.value.diagnosis.got == built.measurements["boot"]


def test_the_difference_of_two_payloads_says_what_moved_a_measurement(
    root: Path, copy: Path, built: Payload, layout: Path
) -> None:
    assert list(differences(read(root), read(root))) == []
    shutil.copyfile(copy / "bundles/sim/boot.erofs", copy / "other")
    (copy / AGENT).unlink()
    (copy / "other").rename(copy / AGENT)
    rewrite(copy, AGENT, built.measurements["boot"])
    lines = list(differences(read(root), read(copy)))
    assert lines[0] == f"* {AGENT}"
    assert "    + usr/bin/crun" in lines
    assert lines[-1] == f"    measurement {built.measurements['agent']} -> {built.measurements['boot']}"


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_it_is_pushed_and_signed_and_verified_where_it_lies(
    layout: Path, built: Payload, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    registry = Registry(ca_pem=docker_registry.ca_pem)
    target = parse_reference(f"{docker_registry.address}/enclave-cc/payload:{built.version}")
    ours, other = SigningKey.generate(), SigningKey.generate()
    try:
        assert push(layout, target, registry, None) == built.digest
        with pytest.raises(Permanent) as unsigned:
            signed_by(ours.public(), target, built.digest, registry)
        assert unsigned.value.code is Code.SIGNATURE_MISSING
        assert push(layout, target, registry, ours) == built.digest
        with opened(str(target.pinned(built.digest)), registry) as contents:
            assert contents.digest == built.digest
        for digest in (built.digest, built.index):
            signed_by(ours.public(), target, digest, registry)
        with pytest.raises(Permanent) as wrong:
            signed_by(other.public(), target, built.digest, registry)
        assert wrong.value.code is Code.SIGNATURE_WRONG
    finally:
        registry.close()
