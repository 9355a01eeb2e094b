"""What a release is built from: a list that another machine's packages are compared with."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.payload import elf, inputs
from deploy.payload.inputs import Input, departures
from deploy.payload.origin import OWN, Origin
from orchestrator.faults import Code, Permanent

SSL = Input("deb", "libssl3", "3.0.19-1", "amd64", "aa" * 32)
NATS = Input("pypi", "nats-py", "2.16.0", "amd64", "bb" * 32)
PINS = "nats_py==2.16.0 \\\n    --hash=sha256:00\nother==1 \\\n"


def codes(*there: Input, pins: str = PINS) -> list[Code]:
    return [departure.code for departure in departures((SSL, NATS), there, pins)]


def test_a_machine_with_the_listed_inputs_departs_in_nothing() -> None:
    assert codes(NATS, SSL) == []
    inputs.refuse(())


@pytest.mark.parametrize(
    ("there", "code"),
    [
        ((replace(SSL, version="3.0.20-1"), NATS), Code.PAYLOAD_VERSION),
        ((replace(SSL, architecture="arm64"), NATS), Code.PAYLOAD_VERSION),
        ((replace(SSL, sha256="cc" * 32), NATS), Code.PAYLOAD_CONTENT),
        ((NATS,), Code.PAYLOAD_UNLISTED),
        ((SSL, NATS, Input("tool", "gcc-12", "12", "amd64", "dd" * 32)), Code.PAYLOAD_UNLISTED),
    ],
    ids=["version", "architecture", "content", "gone", "new"],
)
def test_each_difference_has_its_code_and_a_release_is_refused_for_it(there: tuple[Input, ...], code: Code) -> None:
    assert codes(*there) == [code]
    with pytest.raises(Permanent) as refused:
        inputs.refuse(departures((SSL, NATS), there, PINS))
    assert refused.value.code is code
    assert code in refused.value.diagnosis.got


@pytest.mark.parametrize("pins", ["", PINS.replace("2.16.0", "2.16.1")], ids=["unpinned", "pinned otherwise"])
def test_a_distribution_that_is_not_the_one_pinned_by_hash_is_told_though_it_is_listed(pins: str) -> None:
    assert codes(SSL, NATS, pins=pins) == [Code.PAYLOAD_UNPINNED]


def test_all_differences_are_told_in_one_fault() -> None:
    with pytest.raises(Permanent, match="3 of its inputs differ") as refused:
        inputs.refuse(departures((SSL, NATS), (replace(SSL, version="4"), Input("deb", "a", "1", "amd64", "")), PINS))
    assert refused.value.diagnosis.got.splitlines() == [
        "E-PAYLOAD-003 deb a: nothing is locked, 1 amd64 is installed",
        "E-PAYLOAD-001 deb libssl3: 3.0.19-1 amd64 is locked, 4 amd64 is installed",
        "E-PAYLOAD-003 pypi nats-py: 2.16.0 amd64 is locked, nothing is installed",
    ]


def test_the_list_is_read_as_it_is_written_and_not_otherwise() -> None:
    raw = inputs.render((SSL, NATS))
    assert inputs.parse(raw) == (SSL, NATS)
    for altered in (raw[:-1], raw + raw, raw.replace(b"deb", b"rpm"), raw.replace(b"aa", b"AA"), b"", b"\xff" + raw):
        with pytest.raises(Permanent) as refused:
            inputs.parse(altered)
        assert refused.value.code is Code.INPUT


def test_the_checked_in_list_names_what_requirements_pin() -> None:
    """Whether this machine has it is no matter of a test: Debian moves on, a release does not."""
    listed = inputs.parse(inputs.LOCK.read_bytes())
    assert list(departures(listed, listed, inputs.PINS.read_text())) == []
    assert {item.kind for item in listed} == {"deb", "pypi", "tool"}
    assert {"libc6", "libssl3", "cryptography", "erofs-utils", "gcc-12"} <= {item.name for item in listed}
    assert "://" not in inputs.LOCK.read_text()


def test_an_input_is_digested_by_the_content_of_its_files(tmp_path: Path) -> None:
    module = tmp_path / "module.py"

    def digest_of(content: str) -> str:
        module.write_text(content)
        (found,) = [item for item in inputs.found({module: Origin("pypi", "some", "1")}) if item.name == "some"]
        return found.sha256

    assert digest_of("a = 1") == digest_of("a = 1") != digest_of("a = 2")
    assert OWN not in {item.name for item in inputs.found({module: Origin("pypi", OWN, "1")})}


def test_a_library_is_the_same_wherever_it_was_compiled(tmp_path: Path) -> None:
    """The build id, which a wheel's own compilation leaves in it, is another in each folder."""
    made = []
    for name in ("one", "another"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "part.c").write_text("int part(void) { return 7; }\n")
        command = ["gcc", "-g", "-shared", "-fPIC", "-Wl,--build-id", "-o", "part.so", str(folder / "part.c")]
        subprocess.run(command, check=True, cwd=folder)
        made.append(folder / "part.so")
    assert made[0].read_bytes() != made[1].read_bytes()
    assert elf.stripped(made[0]) == elf.stripped(made[1])
