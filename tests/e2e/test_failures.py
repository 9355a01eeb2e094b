"""Launches that must fail: each where it must, under its own code, truly diagnosed, and leaving nothing behind."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local import images
from deploy.local.cri import ContainerSpec
from orchestrator.events import Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch
from orchestrator.lifecycle import BY_NAME, LAUNCH_STATES, State
from tests.e2e import forgeries
from tests.e2e.alterations import (
    Alteration,
    Told,
    World,
    broker_lies,
    debug_enclaves,
    forged,
    image_keys_denied,
    key_removed,
    layer_byte_flipped,
    layer_truncated,
    measurement_unlisted,
    node_configured,
    only_asked_for,
    signed_by_a_stranger,
    stopped,
    unsigned,
)
from tests.e2e.cluster import WEB, Cluster
from tests.simulators.lying_kbs import Lie, LyingKbs
from tests.waiting import eventually
from workers.enclave import init_data

pytestmark = pytest.mark.e2e

CONTENT = b"what only the enclave may read\n"
OTHER_COMMAND = ("/bin/cat", "/www/index.html")


@dataclass(frozen=True, slots=True)
class Case:
    """How the world is altered, and where and as what the launch must fail.

    The alteration begins before the pod where the pod's own attestation must fail, else when the pod is attested. A
    forgery fails no transition: it fails the launch.
    """

    name: str
    alter: Alteration
    state: State
    transition: str
    code: Code
    command: tuple[str, ...] = ()


_AWAY = Told("a reply under the owner's certificate", "502")
_FORGED_TOKEN = Told("a token signed under the owner's authority", "VerificationError")
_WRONG_NONCE = Told("the nonce of the broker's own challenge", "[nonce]")
_OTHER_PROCESS = Told(repr(list(WEB)), repr(list(OTHER_COMMAND)))
UP, ATTESTED, SEALED = State.AGENT_UP, State.ATTESTED, State.FS_SEALED

# fmt: off
CASES = (
    Case("layer byte flipped", layer_byte_flipped, ATTESTED, "decrypt_image", Code.IMAGE_ALTERED),
    Case("layer truncated", layer_truncated, ATTESTED, "decrypt_image", Code.IMAGE_TRUNCATED),
    Case("wrong signature", signed_by_a_stranger, ATTESTED, "decrypt_image", Code.SIGNATURE_WRONG),
    Case("unsigned", unsigned, ATTESTED, "decrypt_image", Code.SIGNATURE_MISSING),
    Case("registry away", stopped("registry", Told("an answer", "502")), ATTESTED, "decrypt_image",
         Code.IMAGE_REGISTRY_AWAY),
    Case("unknown key id", key_removed, ATTESTED, "decrypt_image", Code.KEY_UNKNOWN),
    Case("KBS denies", image_keys_denied, ATTESTED, "decrypt_image", Code.KEY_DENIED),
    Case("KBS away for keys", stopped("kbs", _AWAY), ATTESTED, "decrypt_image", Code.KEY_KBS_AWAY),
    Case("KBS away for attestation", stopped("kbs", _AWAY), UP, "attest", Code.ATTEST_KBS_AWAY),
    Case("unlisted measurement", measurement_unlisted, UP, "attest", Code.ATTEST_NOT_LISTED),
    Case("debug enclave", debug_enclaves, UP, "attest", Code.ATTEST_DEBUG),
    Case("forged token", broker_lies(Lie.FORGED_TOKEN, _FORGED_TOKEN), UP, "attest", Code.ATTEST_TOKEN),
    Case("wrong nonce", broker_lies(Lie.NONCE, _WRONG_NONCE), UP, "attest", Code.ATTEST_NONCE),
    Case("process outside the launch policy", only_asked_for(_OTHER_PROCESS), SEALED, "deliver_config",
         Code.CONFIG_PROCESS_DENIED, OTHER_COMMAND),
    Case("fact signed by the host's own key", forged(forgeries.decrypted_by_the_hosts_key, "registry"), ATTESTED, "",
         Code.FACT_FORGED),
    Case("fact stated by the host", forged(forgeries.decrypted_by_the_host, "registry"), ATTESTED, "",
         Code.FACT_FORGED),
    Case("attestation by another pod's quote", forged(forgeries.attested_by_another_pods_quote, "kbs"), UP, "",
         Code.FACT_FORGED),
)
# fmt: on


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[World]:
    """The image is published, pulled and launches; a broker that lies stands ready, and does not yet."""
    owner, layout = cluster.owner, cluster.layout
    image = owner.publish(str(images.busybox({"www/index.html": CONTENT}, command=WEB)), "web:1")
    reference = cluster.reference("web:1")
    with cluster.launched(reference, "before"):
        pass
    tls = owner.home / "tls.pem", owner.home / "tls.key"
    with LyingKbs(layout.kbs_url, owner.ca_pem, *tls, Lie.NONE) as liar:
        liars = owner.init_data.read_text().replace(layout.kbs_url, liar.url)
        texts = (owner.init_data.read_text(), liars)
        with closing(owner.admin()) as broker:
            listed = [init_data.parse(text.encode()).config_id.hex() for text in texts]
            broker.set_reference_value("sgx_config_id", [*listed])
        address = liar.url.removeprefix("https://")
        with node_configured(cluster, lambda text: text.replace("reachable = [", f'reachable = ["{address}", ')):
            yield World(cluster, image, reference, liar, liars)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_launch_in_an_altered_world_fails_where_and_as_it_must(world: World, case: Case) -> None:
    cluster = world.cluster
    told: list[Told] = []
    with ExitStack() as altered, pytest.raises(Permanent) as refused:
        run(world, case, lambda: told.append(altered.enter_context(case.alter(world))))
    launch = cluster.newest_launch()
    failure = launch.failure
    assert failure is not None
    diagnosis = failure.diagnosis
    assert (failure.state, failure.transition, diagnosis.code) == (case.state, case.transition, case.code)
    assert passed(launch) == LAUNCH_STATES[: LAUNCH_STATES.index(case.state) + 1]
    assert failure.attempt == (BY_NAME[case.transition].attempts if diagnosis.temporary else 1)
    assert told[0].expected in diagnosis.expected
    assert told[0].got in diagnosis.got
    assert case.code in str(refused.value)
    assert leaks(world, diagnosis.text() + str(refused.value)) == []
    assert leaks(world, stated(cluster, launch.pod)) == []
    if launch.pod in cluster.kubelet.pods():
        cluster.remove(launch.pod)
    assert cluster.launch_of(launch.pod).progress.state is State.GONE
    assert launch.pod not in cluster.kubelet.pods()
    assert cluster.traces(launch.pod) == []
    assert consumers(cluster, launch.pod) == []
    assert eventually(lambda: not processes(launch.pod)), "its shim and conmons have ended"


def test_the_same_image_boots_when_nothing_is_altered_any_more(world: World) -> None:
    cluster = world.cluster
    with cluster.launched(world.reference, "after") as launched:
        assert passed(cluster.launch_of(launched.pod.id)) == LAUNCH_STATES
        assert cluster.traces(launched.pod.id)
        assert consumers(cluster, launched.pod.id)
        assert processes(launched.pod.id)
    assert cluster.traces(launched.pod.id) == []


def test_no_process_met_what_it_was_not_written_for_or_logged_a_secret(world: World) -> None:
    layout = world.cluster.layout
    logs = [*layout.logs.rglob("*.log"), *(layout.root / "state/agent-logs").glob("*.log")]
    assert {"worker.log", "orchestrator.log", "kbs.log"} <= {log.name for log in logs}
    for log in logs:
        text = log.read_text(errors="replace")
        assert "defect" not in text, log
        assert "Traceback" not in text, log
        assert leaks(world, text) == [], log


def test_a_secret_that_was_told_would_be_noticed(world: World) -> None:
    key = world.key_material()
    token = "eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + ".c"
    for spelled in (key.hex(), base64.b64encode(key).decode(), CONTENT.decode(), token):
        assert len(leaks(world, f"expected {spelled}, got another")) == 1


def run(world: World, case: Case, alter: Callable[[], None]) -> None:
    """Launch as a kubelet does, in a world that is altered in time."""
    kubelet = world.cluster.kubelet
    if case.state is UP:
        alter()
    pod = kubelet.run_pod(re.sub("[^a-z]+", "-", case.name.lower()))
    if case.state is not UP:
        alter()
    kubelet.start_container(kubelet.create_container(pod, ContainerSpec("app", world.reference, case.command)))


def passed(launch: Launch) -> tuple[State, ...]:
    """The states that the pod and its one container have passed."""
    progresses = (launch.progress, *(container.progress for container in launch.containers.values()))
    return tuple(step.state for progress in progresses for step in progress.passed)


def stated(cluster: Cluster, pod: str) -> str:
    """Every statement of a history, as text as far as it is text."""
    history = cluster.histories()[pod]
    return "\n".join(message.statement.decode("latin-1") for message in history if isinstance(message, Recorded))


def leaks(world: World, text: str) -> list[str]:
    """What secret a text holds in one of the usual spellings, by name: the image's key, its plaintext, tokens."""
    key, owners = world.key_material(), sorted(world.cluster.owner.home.glob("*.key"))
    secrets = {"layer key": spellings(key), "plaintext": [CONTENT.decode().strip()]}
    secrets |= {path.name: [path.read_text().splitlines()[1]] for path in owners}
    found = [name for name, spelled in secrets.items() if any(spelling in text for spelling in spelled)]
    return found + ["token" for _ in re.finditer(r"eyJ[\w-]{16,}\.eyJ[\w-]{16,}\.", text)]


def spellings(secret: bytes) -> list[str]:
    """As bytes, hex and both kinds of base64, without padding."""
    encoded = [base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode()]
    return [secret.decode("latin-1"), secret.hex(), *(text.rstrip("=") for text in encoded)]


def consumers(cluster: Cluster, pod: str) -> list[str]:
    """The consumers that nats-server keeps for a pod."""
    return [str(path) for path in (cluster.layout.root / "jetstream").rglob(f"*{pod}*")]


def processes(pod: str) -> list[str]:
    """The command lines that name a pod: its shim, its containers' conmons."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if pod in line]
