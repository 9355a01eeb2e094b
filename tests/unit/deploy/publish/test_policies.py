"""The owner's folder of policies: what is added, and that nothing a person wrote is changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.publish.cosign_key import SigningKey
from deploy.publish.policies import PolicyFolder
from orchestrator.faults import Code, Permanent
from tests.unit.deploy.publish.conftest import Shelf
from workers.enclave.image.reference import parse_reference

PEM = SigningKey.generate().public_pem()


@pytest.fixture
def folder(tmp_path: Path) -> PolicyFolder:
    return PolicyFolder(tmp_path / "policies")


def test_an_empty_folder_admits_nothing(folder) -> None:
    image, launch = folder.check()
    assert image.default[0].kind == "reject"
    assert image.scopes == {}
    assert launch.rules == ()


def test_admitting_twice_is_admitting_once(folder) -> None:
    folder.admit("r.example/app", PEM)
    before = folder.image_policy.read_bytes(), folder.launch_policy.read_bytes()
    folder.admit("r.example/app", PEM)
    assert (folder.image_policy.read_bytes(), folder.launch_policy.read_bytes()) == before


def test_admitting_one_image_keeps_the_others_and_what_a_person_wrote(folder) -> None:
    folder.admit("r.example/app", PEM)
    launch = json.loads(folder.launch_policy.read_text())
    launch["rules"][0]["terminal"] = True
    launch["secrets"] = [{"image": "r.example/app", "uri": "kbs:///default/secret/db", "env": "DB"}]
    folder.launch_policy.write_text(json.dumps(launch))
    folder.admit("r.example/other", PEM)
    image, parsed = folder.check()
    assert set(image.scopes) == {"r.example/app", "r.example/other"}
    assert [rule.terminal for rule in parsed.rules] == [True, False]
    assert len(parsed.secrets) == 1


def test_another_key_for_an_admitted_image_is_refused(folder) -> None:
    folder.admit("r.example/app", PEM)
    before = folder.image_policy.read_bytes()
    with pytest.raises(Permanent) as refused:
        folder.admit("r.example/app", SigningKey.generate().public_pem())
    assert refused.value.code is Code.INPUT
    assert folder.image_policy.read_bytes() == before


def test_an_unencrypted_image_is_admitted_by_name_only(folder) -> None:
    folder.admit("r.example/public", PEM, unencrypted=True)
    policy = folder.check()[0]
    assert policy.admits_unencrypted(parse_reference("r.example/public:v1"))
    assert not policy.admits_unencrypted(parse_reference("r.example/app:v1"))


def test_boot_measurements_are_collected_once_each(folder) -> None:
    folder.admit_boot(["ab" * 32])
    folder.admit_boot(["ab" * 32, "cd" * 32])
    assert folder.check()[1].boot_measurements == {"ab" * 32, "cd" * 32}


def test_a_measurement_that_is_none_is_refused_and_not_written(folder) -> None:
    with pytest.raises(Permanent) as refused:
        folder.admit_boot(["no hex"])
    assert refused.value.code is Code.CONFIG_POLICY
    assert not folder.launch_policy.exists()


def test_a_broken_file_is_told_and_not_sent(folder) -> None:
    folder.path.mkdir()
    folder.image_policy.write_text("{")
    shelf = Shelf()
    with pytest.raises(Permanent) as refused:
        folder.put(shelf)
    assert refused.value.code is Code.INPUT
    assert shelf.resources == {}


def test_a_document_that_no_enclave_would_take_is_not_sent(folder) -> None:
    folder.path.mkdir()
    folder.launch_policy.write_text('{"version": 1, "boot_measurements": [], "rulez": []}')
    with pytest.raises(Permanent) as refused:
        folder.put(Shelf())
    assert refused.value.code is Code.CONFIG_POLICY
