"""seal_fs: the store that decrypt_image began is finished once, and what is told of it opens it."""

from __future__ import annotations

import pytest

from orchestrator.faults import Code, Permanent
from tests.unit.enclave.pods import AgentPod, command, nothing_known
from workers.enclave.rootfs.format import file_size
from workers.enclave.rootfs.store import open_store
from workers.enclave.seal_fs import SealFs


async def test_the_fact_names_the_store_and_pins_every_byte_of_it(pod: AgentPod) -> None:
    work = pod.decrypted("c", content=b"content" * 10_000)
    fact = await SealFs(pod.works, pod.stores)(command("seal_fs"), nothing_known())
    path = pod.folder / "stores" / fact.store
    assert fact.store == "c.1"
    assert (fact.files, fact.bytes) == (2, path.stat().st_size)
    assert work.sealed is not None
    assert fact.bytes == file_size(work.sealed.units)
    open_store(path, work.sealed.key, bytes.fromhex(fact.root_hash)).close()
    with pytest.raises(Exception, match="E-BOOT-001"):
        open_store(path, work.sealed.key, bytes(32))


async def test_asked_again_it_tells_the_same(pod: AgentPod) -> None:
    pod.decrypted("c")
    step = SealFs(pod.works, pod.stores)
    assert await step(command("seal_fs"), nothing_known()) == await step(command("seal_fs"), nothing_known())


async def test_containers_of_one_image_have_each_their_own_name_and_key_for_one_store(pod: AgentPod) -> None:
    one, other = pod.decrypted("c"), pod.decrypted("d")
    other.image = one.image
    step = SealFs(pod.works, pod.stores)
    facts = [await step(command("seal_fs", container), nothing_known()) for container in ("c", "d")]
    assert [fact.store for fact in facts] == ["c.1", "d.1"]
    assert facts[0].root_hash == facts[1].root_hash
    assert (pod.stores / "c.1").samefile(pod.stores / "d.1")
    pod.works.drop("c")
    assert other.sealed is not None
    open_store(pod.stores / "d.1", other.sealed.key, bytes.fromhex(facts[1].root_hash)).close()


@pytest.mark.parametrize("left", ["nothing", "another container's", "an image whose store was given up"])
async def test_a_container_whose_image_this_agent_did_not_decrypt_cannot_be_sealed(pod: AgentPod, left: str) -> None:
    if left == "another container's":
        pod.decrypted("d")
    if left == "an image whose store was given up":
        pod.decrypted("c").image.wipe()
    with pytest.raises(Permanent) as raised:
        await SealFs(pod.works, pod.stores)(command("seal_fs"), nothing_known())
    assert raised.value.code is Code.SEAL_FAILED
    assert raised.value.diagnosis.advice
