"""deliver_config: the owner's policy, the host's proposal, the owner's secrets, an attested app enclave: then, once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from orchestrator.events import ConfigDelivered
from orchestrator.faults import Code, Fault, Permanent, Temporary
from orchestrator.output.recipient import RecipientKey
from schemas.sealed_output import Head
from tests.network import Network, in_network
from tests.unit.enclave.pods import (
    BOOT,
    POLICY_URI,
    PROPOSED,
    STRANGER,
    TOKEN_URI,
    AgentPod,
    command,
    launch_policy,
    nothing_known,
)
from tests.unit.enclave.test_sessions import come
from workers.enclave import messages
from workers.enclave.boot.output import OutputSeal
from workers.enclave.deliver_config import UPPER_BYTES, DeliverConfig, check_variables, upper_bytes
from workers.enclave.launch_policy.approved import ApprovedProcess, ApprovedSecret
from workers.enclave.launch_policy.proposal import Capabilities
from workers.enclave.rootfs.crypto import StoreKey
from workers.enclave.rootfs.store import open_store
from workers.enclave.sessions import Sessions
from workers.enclave.tee.channel import SecureChannel
from workers.host.doors import Answers, Door

URI = "kbs:///default/secret/token"


def process(secret: ApprovedSecret) -> ApprovedProcess:
    return ApprovedProcess(
        argv=("/bin/app",),
        env=(),
        cwd="/",
        user="0",
        additional_gids=(),
        capabilities=Capabilities(),
        rlimits=(),
        no_new_privileges=True,
        terminal=False,
        mounts=(),
        secrets=(secret,),
        hostname="",
        read_only_root=False,
        policy_id="sha256:0",
        rule="rule-0",
        verdict="admitted",
    )


@pytest.mark.parametrize("value", [b"\xff\xfe binary", b"cut\0off", b"\xed\xa0\x80"])
def test_a_secret_that_cannot_be_a_variable_is_refused_without_its_bytes(value: bytes) -> None:
    with pytest.raises(Permanent) as raised:
        check_variables(process(ApprovedSecret(URI, "", 0o400, "TOKEN")), {URI: value})
    assert raised.value.code is Code.KEY_MALFORMED
    assert "binary" not in raised.value.diagnostics()
    assert "cut" not in raised.value.diagnostics()
    assert raised.value.__context__ is None


def test_any_bytes_can_be_a_file_and_any_text_a_variable() -> None:
    check_variables(process(ApprovedSecret(URI, "/run/secrets/token", 0o400, "")), {URI: b"\xff\0"})
    check_variables(process(ApprovedSecret(URI, "", 0o400, "TOKEN")), {URI: "öffne dich\n".encode()})


# --- the step ---------------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """An agent that serves app enclaves, and a host that proposes `PROPOSED` unless a test says otherwise."""

    pod: AgentPod
    sessions: Sessions
    door: Door
    proposed: dict[str, object] = field(default_factory=lambda: dict(PROPOSED))
    asked: list[str] = field(default_factory=list)

    @property
    def step(self) -> DeliverConfig:
        return DeliverConfig(self.pod.kbs(), self.pod.policies(), self.sessions, self.pod.works)

    def deliver(self) -> asyncio.Task[ConfigDelivered]:
        return asyncio.create_task(self.step(command("deliver_config"), nothing_known()))

    async def app(self) -> SecureChannel:
        return await come(self.pod.boot(), container="c", attempt=1)

    async def fault(self, delivering: asyncio.Task[ConfigDelivered]) -> Fault:
        """Why it failed; the store's key has ended with it."""
        work = self.pod.works.get("c")
        with pytest.raises(Fault) as raised:
            await asyncio.wait_for(delivering, 20)
        assert self.pod.works.get("c") is None
        assert work is None or is_wiped(work)
        return raised.value


def is_wiped(work) -> bool:
    try:
        return not bytes(work.sealed.key.material)
    except ValueError:
        return True


@asynccontextmanager
async def stage(pod: AgentPod, *secrets: dict[str, object]) -> AsyncIterator[Stage]:
    pod.put(POLICY_URI, launch_policy(*secrets))
    sessions = pod.sessions()

    async def process(_: str, container: str) -> dict[str, object]:
        made.asked.append(container)
        return made.proposed

    async def enroll(_: str, __: str) -> dict[str, str]:
        return {}

    door = Door("p", ("127.0.0.1", 1), frozenset(), Answers(enroll, process))
    made = Stage(pod, sessions, door)
    await door.open("/proc/thread-self/ns/net")
    serving = asyncio.create_task(sessions.serve())
    try:
        yield made
    finally:
        await door.close()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


@in_network
async def test_an_app_enclave_gets_what_opens_its_store_and_what_to_run_and_the_agent_keeps_no_key(
    pod: AgentPod, network: Network
) -> None:
    work = pod.sealed("c")
    async with stage(pod) as s:
        delivering, channel = s.deliver(), await s.app()
        message = messages.unpack(await asyncio.wait_for(channel.receive(), 10), "config")
        assert not delivering.done(), "not before the app enclave says that it has it"
        await channel.send(messages.pack("accepted", host_data=["/etc/app@sha256:00"]))
        fact = await asyncio.wait_for(delivering, 10)
        assert s.asked == ["c"]
    assert is_wiped(work)
    assert work.delivered
    approved = ApprovedProcess.decode(str(message["process"]).encode())
    assert (approved.argv, approved.env) == (("/app",), ("PATH=/bin",))
    assert fact.config_sha256 == hashlib.sha256(approved.encode()).hexdigest()
    assert (fact.verdict, fact.measurement) == (approved.verdict, BOOT.hex())
    assert fact.host_data == ("/etc/app@sha256:00",)
    assert (message["upper_bytes"], message["secrets"], message["volumes"]) == (UPPER_BYTES, {}, {})
    assert message["output"] == {}
    assert (fact.output_key_ids, fact.output_head_sha256) == ((), "")
    key = StoreKey(bytearray(base64.b64decode(str(message["key"]))))
    open_store(pod.folder / "stores/c.1", key, bytes.fromhex(str(message["root_hash"]))).close()


@in_network
async def test_the_owners_secrets_go_along(pod: AgentPod, network: Network) -> None:
    pod.put(TOKEN_URI, b"hush")
    pod.sealed("c")
    wanted = {"image": "registry.example/shop/app", "uri": TOKEN_URI, "env": "TOKEN"}
    async with stage(pod, wanted) as s:
        delivering, channel = s.deliver(), await s.app()
        message = messages.unpack(await asyncio.wait_for(channel.receive(), 10), "config")
        assert message["secrets"] == {TOKEN_URI: base64.b64encode(b"hush").decode()}
        await channel.send(messages.pack("accepted", host_data=[]))
        await asyncio.wait_for(delivering, 10)


@pytest.mark.parametrize("terminal", [False, True])
@in_network
async def test_where_the_owner_names_readers_a_key_for_the_output_goes_along_and_the_fact_says_whose(
    pod: AgentPod, network: Network, terminal: bool
) -> None:
    pod.sealed("c")
    reader = RecipientKey.generate()
    async with stage(pod) as s:
        policy = json.loads(launch_policy())
        policy["rules"][0] |= {"output": {"sealed_for": [reader.public.jwk()]}, "terminal": terminal}
        pod.put(POLICY_URI, json.dumps(policy).encode())
        s.proposed = PROPOSED | {"process": PROPOSED["process"] | {"terminal": terminal}}
        delivering, channel = s.deliver(), await s.app()
        message = messages.unpack(await asyncio.wait_for(channel.receive(), 10), "config")
        await channel.send(messages.pack("accepted", host_data=[]))
        fact = await asyncio.wait_for(delivering, 10)
    seal = OutputSeal.decode(message["output"])  # type: ignore[arg-type]  # an object, as the message says
    head = Head.decode(seal.head)
    assert (head.container, head.attempt) == ("c", 1)
    assert head.streams == seal.streams == (("stdout",) if terminal else ("stdout", "stderr"))
    assert reader.unwrap(head) == seal.key
    assert fact.output_key_ids == (reader.public.thumbprint,)
    assert fact.output_head_sha256 == hashlib.sha256(seal.head).hexdigest()
    assert base64.b64encode(seal.key).decode() not in repr(fact)


@in_network
async def test_it_happens_once(pod: AgentPod, network: Network) -> None:
    pod.sealed("c")
    async with stage(pod) as s:
        delivering, channel = s.deliver(), await s.app()
        await channel.receive()
        await channel.send(messages.pack("accepted", host_data=[]))
        await asyncio.wait_for(delivering, 10)
        with pytest.raises(Permanent) as raised:
            await s.deliver()
        assert raised.value.code is Code.CONFIG_USED
        assert pod.works.get("c") is not None, "what was delivered is not undone by a second command"


@pytest.mark.parametrize("left", ["nothing", "an unsealed store"])
@in_network
async def test_without_a_sealed_store_there_is_nothing_to_deliver(pod: AgentPod, network: Network, left: str) -> None:
    if left != "nothing":
        pod.decrypted("c")
    async with stage(pod) as s:
        with pytest.raises(Permanent) as raised:
            await s.deliver()
        assert raised.value.code is Code.CONFIG_USED
        assert s.asked == []


@in_network
async def test_a_process_that_the_policy_does_not_admit_gets_no_key(pod: AgentPod, network: Network) -> None:
    pod.sealed("c")
    async with stage(pod) as s:
        s.proposed = PROPOSED | {"process": PROPOSED["process"] | {"args": ["/bin/sh", "-c", "cat /key"]}}
        assert (await s.fault(s.deliver())).code is Code.CONFIG_PROCESS_DENIED


@in_network
async def test_a_host_that_is_away_is_asked_again(pod: AgentPod, network: Network) -> None:
    pod.sealed("c")
    async with stage(pod) as s:
        await s.door.close()
        delivering, channel = s.deliver(), await s.app()
        await asyncio.sleep(0.3)
        assert not delivering.done()
        await s.door.open("/proc/thread-self/ns/net")
        await asyncio.wait_for(channel.receive(), 10)
        await channel.send(messages.pack("accepted", host_data=[]))
        await asyncio.wait_for(delivering, 10)


@in_network
async def test_a_secret_that_the_broker_does_not_have_ends_it(pod: AgentPod, network: Network) -> None:
    pod.sealed("c")
    wanted = {
        "image": "registry.example/shop/app",
        "uri": "kbs:///default/secret/absent",
        "path": "/run/secrets/absent",
    }
    async with stage(pod, wanted) as s:
        assert (await s.fault(s.deliver())).code is Code.KEY_UNKNOWN


@in_network
async def test_an_enclave_of_another_measurement_gets_nothing(pod: AgentPod, network: Network) -> None:
    pod.sealed("c")
    async with stage(pod) as s:
        delivering = s.deliver()
        async with asyncio.timeout(10):
            while not s.sessions._waiting:
                await asyncio.sleep(0.01)
        with pytest.raises(Fault):
            await (await come(pod.boot(STRANGER), container="c", attempt=1)).receive()
        assert (await s.fault(delivering)).code is Code.CONFIG_APP_MEASUREMENT


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        (b"", Permanent, Code.CONFIG_LOCAL_ATTESTATION),
        (b'{"type": "booted"}', Permanent, Code.CONFIG_LOCAL_ATTESTATION),
        (b'{"type": "failed", "code": "E-BOOT-001", "message": "no room"}', Permanent, Code.BOOT_STORE),
        (None, Temporary, Code.CONFIG_LOCAL_ATTESTATION),
    ],
)
@in_network
async def test_an_app_enclave_that_does_not_take_it_is_told_of_and_the_key_ends(
    pod: AgentPod, network: Network, said: bytes | None, kind: type[Fault], code: Code
) -> None:
    pod.sealed("c")
    async with stage(pod) as s:
        delivering, channel = s.deliver(), await s.app()
        await channel.receive()
        if said is None:
            channel.close()
        else:
            await channel.send(said)
        fault = await s.fault(delivering)
        assert (type(fault), fault.code) == (kind, code)
        if said is not None:
            with pytest.raises(Temporary):
                await asyncio.wait_for(channel.receive(), 10)


@in_network
async def test_a_step_whose_time_is_over_ends_the_key_and_the_conversation(pod: AgentPod, network: Network) -> None:
    work = pod.sealed("c")
    async with stage(pod) as s:
        delivering, channel = s.deliver(), await s.app()
        await channel.receive()
        delivering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivering
        with pytest.raises(Temporary):
            await asyncio.wait_for(channel.receive(), 10)
    assert is_wiped(work)
    assert pod.works.get("c") is None


@in_network
async def test_more_secrets_than_a_message_holds_are_refused_and_not_cut(pod: AgentPod, network: Network) -> None:
    pod.put(TOKEN_URI, b"x" * (1 << 20))
    pod.sealed("c")
    wanted = {"image": "registry.example/shop/app", "uri": TOKEN_URI, "path": "/run/secrets/token"}
    async with stage(pod, wanted) as s:
        delivering = s.deliver()
        await s.app()
        fault = await s.fault(delivering)
        assert isinstance(fault, Permanent)
        assert "1048576 bytes" in fault.diagnosis.expected


@pytest.mark.parametrize(
    ("limit", "writable"),
    [(0, 512), (64, 32), (160, 80), (8, 16), (1024, 512), (4096, 512)],
    ids=["none", "small", "usual", "least", "as-without", "large"],
)
def test_what_a_workload_may_write_follows_its_memory_limit(limit: int, writable: int) -> None:
    assert upper_bytes(limit << 20) == writable << 20
