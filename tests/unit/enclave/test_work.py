"""What the agent keeps of containers: whole while it is needed, wiped when not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.enclave.pods import AgentPod


def key_of(work) -> bytes:
    return bytes(work.sealed.key.material)


@pytest.fixture
def stores(pod: AgentPod) -> Path:
    return pod.folder / "stores"


def test_a_container_that_was_never_worked_on_has_nothing(pod: AgentPod) -> None:
    assert pod.works.get("c") is None
    pod.works.drop("c")
    pod.works.keep({"c"})


def test_dropping_wipes_the_containers_key_and_leaves_its_image(pod: AgentPod, stores: Path) -> None:
    unfinished, finished = pod.decrypted("a"), pod.sealed("b")
    assert key_of(finished) != bytes(32)
    for container in ("a", "b"):
        pod.works.drop(container)
        assert pod.works.get(container) is None
    with pytest.raises(ValueError, match="wiped"):
        key_of(finished)
    assert "b.1" in {path.name for path in stores.iterdir()}, "a finished store is the host's to remove"
    for work in (unfinished, finished):
        work.wipe()
        assert any(work.image.given_as(stores / "again").key.material)


def test_a_later_attempt_replaces_and_wipes_the_earlier_one(pod: AgentPod) -> None:
    first = pod.sealed("c", attempt=1)
    second = pod.sealed("c", attempt=2)
    assert pod.works.get("c") is second
    with pytest.raises(ValueError, match="wiped"):
        key_of(first)
    assert key_of(second) != bytes(32)


def test_only_what_is_still_wanted_is_kept(pod: AgentPod) -> None:
    works = {name: pod.sealed(name) for name in ("a", "b", "c")}
    pod.works.keep({"b", "never seen"})
    assert [name for name in works if pod.works.get(name)] == ["b"]
    assert key_of(works["b"])
    for name in ("a", "c"):
        with pytest.raises(ValueError, match="wiped"):
            key_of(works[name])


def test_nothing_of_it_is_shown(pod: AgentPod) -> None:
    work = pod.sealed("c")
    material = key_of(work)
    assert material.hex() not in repr(work)
    assert repr(material)[2:20] not in repr(pod.works)
