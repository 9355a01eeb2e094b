"""Writes the golden histories that are missing: `python -m tests.golden.histories.generate`.

A file that exists is never written again: it is a history as version 1 wrote it, and every later version must fold it
to the same launch. A new outcome gets a new scenario; a new version of the format a new folder.

Each file is JSON lines: first what the launch came to, then each message of the stream as it was stored.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator import events
from orchestrator.faults import Code, Permanent
from orchestrator.lifecycle import Zone
from schemas import facts_pb2
from tests.golden.histories.outcome import outcome
from tests.simulators import history
from tests.simulators.history import APP, SIDECAR, EventKey, History

FOLDER: Final = Path(__file__).parent / "v1"
Scenario = Callable[[History], None]
SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(play: Scenario) -> Scenario:
    """Register a history under its function's name."""
    SCENARIOS[play.__name__.replace("_", "-")] = play
    return play


def failed(made: History, transition: str, code: Code, container: str = "", **fact: Any) -> None:
    """A step that failed with a code of its own."""
    temporary = bool(fact.pop("temporary", False))
    body = history.step_failed(transition, temporary=temporary, code=code.value)
    made.say(body, container=container, **{"attempt": 1, **fact})


@scenario
def requested(made: History) -> None:
    made.requested()


@scenario
def booted(made: History) -> None:
    made.up_to_booted()


@scenario
def booted_before_the_host_told_its_half(made: History) -> None:
    made.up_to_sealed()
    made.start()
    made.delivered()
    made.booted()
    made.app_started()


@scenario
def two_containers(made: History) -> None:
    made.up_to_attested()
    for step in ("container", "decrypted", "sealed", "start", "app_started", "delivered", "booted"):
        for container in (APP, SIDECAR):
            getattr(made, step)(container)


@scenario
def retried_then_booted(made: History) -> None:
    made.requested()
    failed(made, "create_sandbox", Code.RUNTIME, temporary=True)
    made.sandboxed(attempt=2)
    made.agent_up()
    for attempt in (1, 2, 3):
        failed(made, "attest", Code.ATTEST_KBS_AWAY, attempt=attempt, temporary=True, zone=Zone.ENCLAVE, signed=False)
    made.attested(attempt=4)
    made.container()
    failed(made, "decrypt_image", Code.IMAGE_REGISTRY_AWAY, APP, temporary=True, zone=Zone.ENCLAVE)
    made.decrypted(attempt=2)
    for step in (made.sealed, made.start, made.app_started, made.delivered, made.booted):
        step()


@scenario
def exited(made: History) -> None:
    made.up_to_booted()
    made.exited(code=0)


@scenario
def killed(made: History) -> None:
    made.up_to_booted()
    made.exited(code=137)
    made.stop(APP)
    made.torn_down(APP)


@scenario
def container_created_again(made: History) -> None:
    made.up_to_booted()
    made.exited(code=1)
    made.stop(APP)
    made.torn_down(APP)
    made.up_to_booted(SIDECAR)


@scenario
def stopped_and_gone(made: History) -> None:
    made.up_to_booted()
    made.stop()
    made.exited(code=143)
    made.exited("", code=0)
    made.torn_down()


@scenario
def stopped_half_way(made: History) -> None:
    made.up_to_attested()
    made.container()
    made.stop()
    made.torn_down()
    made.decrypted()


@scenario
def teardown_retried(made: History) -> None:
    made.requested()
    made.sandboxed()
    made.stop()
    for attempt in (1, 2, 3):
        failed(made, "teardown", Code.RUNTIME, attempt=attempt, temporary=True)
    made.torn_down(attempt=4)


@scenario
def pause_container_died(made: History) -> None:
    made.up_to_booted()
    made.exited("", code=137)
    made.torn_down()


@scenario
def sandbox_refused(made: History) -> None:
    made.requested()
    failed(made, "create_sandbox", Code.SANDBOX_HOST_NETWORK)
    made.torn_down()


@scenario
def agent_never_came(made: History) -> None:
    made.requested()
    made.sandboxed()
    for attempt in (1, 2):
        failed(made, "launch_agent", Code.DEADLINE, attempt=attempt, temporary=True, after_ms=60_000)
    made.torn_down()


@scenario
def measurement_not_listed(made: History) -> None:
    for step in (made.requested, made.sandboxed, made.agent_up):
        step()
    failed(made, "attest", Code.ATTEST_NOT_LISTED, zone=Zone.ENCLAVE, signed=False)
    made.torn_down()


@scenario
def signature_wrong(made: History) -> None:
    made.up_to_attested()
    made.container()
    failed(made, "decrypt_image", Code.SIGNATURE_WRONG, APP, zone=Zone.ENCLAVE)
    made.torn_down(APP)


@scenario
def key_denied_then_removed(made: History) -> None:
    made.up_to_attested()
    made.container()
    failed(made, "decrypt_image", Code.KEY_DENIED, APP, zone=Zone.ENCLAVE)
    made.torn_down(APP)
    made.stop(APP)
    made.torn_down(APP, attempt=2)
    made.stop()
    made.torn_down()


@scenario
def no_space_to_seal(made: History) -> None:
    made.up_to_attested()
    made.container()
    made.decrypted()
    failed(made, "seal_fs", Code.SEAL_NO_SPACE, APP, zone=Zone.ENCLAVE, temporary=True)


@scenario
def process_denied(made: History) -> None:
    made.up_to_sealed()
    made.start()
    made.app_started()
    failed(made, "deliver_config", Code.CONFIG_PROCESS_DENIED, APP, zone=Zone.ENCLAVE)
    made.torn_down(APP)


@scenario
def app_enclave_not_started(made: History) -> None:
    made.up_to_sealed()
    made.start()
    failed(made, "start_app", Code.RUNTIME, APP)
    made.torn_down(APP)


@scenario
def boot_lost(made: History) -> None:
    made.up_to_sealed()
    made.start()
    made.app_started()
    made.delivered()
    made.exited(code=1)
    made.torn_down(APP)


@scenario
def deadline(made: History) -> None:
    made.up_to_sealed()
    made.start()
    failed(made, "deliver_config", Code.DEADLINE, APP, temporary=True, after_ms=60_000)


@scenario
def agent_lost_while_sealing(made: History) -> None:
    made.up_to_attested()
    made.container()
    made.decrypted()
    made.agent_lost()
    made.torn_down()


@scenario
def agent_lost_while_running(made: History) -> None:
    made.up_to_booted()
    made.container(SIDECAR)
    made.agent_lost()
    made.torn_down(SIDECAR)
    made.exited(code=0)


@scenario
def commands_beside_the_workload(made: History) -> None:
    made.up_to_booted()
    made.exec_refused()
    for times in (1, 2):
        made.exec_admitted(times=times)
    made.exec_admitted(SIDECAR)
    made.exited()


@scenario
def forged_unsigned(made: History) -> None:
    made.up_to_attested()
    made.container()
    made.say(history.image_decrypted(), container=APP, attempt=1, signed=False)
    made.torn_down()


@scenario
def forged_by_another_key(made: History) -> None:
    made.up_to_attested()
    made.container()
    made.say(history.image_decrypted(), container=APP, attempt=1, sign=key_of("another").sign)


@scenario
def forged_by_the_host(made: History) -> None:
    made.up_to_attested()
    made.container()
    made.say(history.image_decrypted(), container=APP, attempt=1, zone=Zone.HOST)


@scenario
def forged_quote_of_another_pod(made: History) -> None:
    for step in (made.requested, made.sandboxed, made.agent_up):
        step()
    made.say(history.attested("another-pod", made.key), attempt=1)


@scenario
def late_and_doubled(made: History) -> None:
    made.up_to_attested()
    made.sandboxed()
    made.agent_up(attempt=2)
    made.container()
    made.container()
    made.decrypted()
    made.decrypted()


@scenario
def garbage_between(made: History) -> None:
    made.requested()
    made.garbage(b'{"stream":"EV","seq":1}')
    made.sandboxed()
    made.garbage(b"")


@scenario
def of_a_later_version(made: History) -> None:
    """A field and a kind that version 1 does not know: field 900 of an empty message, and text in field 901."""
    made.requested()
    head = made.launch().head
    statement = facts_pb2.Statement(pod=made.pod, zone=facts_pb2.ZONE_HOST, actor="later", at_ns=made.now_ns)
    raw = statement.SerializeToString() + bytes.fromhex("a23800aa380173")
    envelope = facts_pb2.Envelope(id=bytes(16), index=2, previous=head, statement=raw)
    made.garbage(envelope.SerializeToString())
    made.sandboxed()


@scenario
def nobody_asked(made: History) -> None:
    made.sandboxed()
    made.stop()


@scenario
def a_message_is_missing(made: History) -> None:
    made.up_to_booted()
    del made.raw[5]


@scenario
def a_message_was_edited(made: History) -> None:
    made.up_to_booted()
    made.raw[1] = made.raw[1].replace(b"/proc/4001/ns/net", b"/proc/6666/ns/net")


@scenario
def a_fork(made: History) -> None:
    made.requested()
    with suppress(Permanent):
        made.say(history.pod_requested("node-b"), index=1, previous=b"")


@scenario
def resumed_and_lost_at_its_boot(made: History) -> None:
    made.up_to_attested(hold_seconds=60)
    made.container()
    failed(made, "decrypt_image", Code.KEY_DENIED, APP, zone=Zone.ENCLAVE)
    made.resume(APP)
    made.decrypted(attempt=2)
    made.sealed(attempt=2)
    made.start()
    made.app_started(attempt=2)
    made.exited(code=1)  # what the host tells of the attempt before would be another's; this is the new one's


@scenario
def resumed_from_its_last_step_and_booted(made: History) -> None:
    made.up_to_attested(hold_seconds=60)
    for step in (made.container, made.decrypted, made.sealed, made.start, made.app_started, made.delivered):
        step()
    failed(made, "boot_app", Code.BOOT_STORE, APP, zone=Zone.ENCLAVE)
    made.resume(APP)
    made.exited(code=1)
    for resumed in (made.decrypted, made.sealed, made.app_started, made.delivered, made.booted):
        resumed(attempt=2)


@scenario
def pod_resumed_while_it_attests(made: History) -> None:
    made.requested(hold_seconds=60)
    made.sandboxed()
    made.agent_up()
    for attempt in (1, 2, 3, 4, 5):
        failed(made, "attest", Code.ATTEST_KBS_AWAY, attempt=attempt, temporary=True, zone=Zone.ENCLAVE, signed=False)
    made.resume()
    failed(made, "attest", Code.ATTEST_KBS_AWAY, attempt=6, temporary=True, zone=Zone.ENCLAVE, signed=False)
    made.attested(attempt=7)


@scenario
def resumed_with_a_new_agent(made: History) -> None:
    made.up_to_attested(hold_seconds=60)
    made.container()
    made.decrypted()
    made.agent_lost()
    made.resume()
    made.agent_up(attempt=2)
    made.key = key_of("the new agent")
    made.attested(attempt=2)
    made.decrypted(attempt=2)


@scenario
def held_and_resumed_by_nobody(made: History) -> None:
    made.up_to_attested(hold_seconds=60)
    made.container()
    failed(made, "decrypt_image", Code.IMAGE_NOT_FOUND, APP, zone=Zone.ENCLAVE)
    made.stop(APP, "held for 60 s after its failure, and resumed by nobody")
    made.torn_down(APP)
    made.resume(APP)


@scenario
def orders_that_do_not_count(made: History) -> None:
    made.up_to_attested(hold_seconds=60)
    made.resume()
    made.container()
    failed(made, "decrypt_image", Code.KEY_DENIED, APP, zone=Zone.ENCLAVE)
    made.resume(APP, operator=key_of("a stranger"))
    made.resume(APP, start="seal_fs")
    made.forked()


@scenario
def not_held_so_not_resumed(made: History) -> None:
    made.requested()
    made.sandboxed()
    failed(made, "launch_agent", Code.AGENT_INIT_DATA)
    made.resume()
    made.torn_down()


@scenario
def forked(made: History) -> None:
    made.forked()
    made.up_to_booted()


@scenario
def refused_fork(made: History) -> None:
    made.forked()
    made.stop()
    made.torn_down()


def key_of(name: str) -> EventKey:
    """The same event key each time."""
    return EventKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()))


def make(name: str) -> History:
    """A scenario's history, the same bytes each time."""
    made = History(key=key_of(name))
    SCENARIOS[name](made)
    return made


def write(path: Path, made: History) -> None:
    """One golden file; JSON lines."""
    lines: list[dict[str, Any]] = [{"outcome": outcome(made.pod, made.records())}]
    for sequence, (raw, record) in enumerate(zip(made.raw, made.records(), strict=True), 1):
        kind = events.kind(record.fact.body) if isinstance(record, events.Recorded) else "foreign"
        lines.append({"sequence": sequence, "kind": kind, "message": base64.b64encode(raw).decode()})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def main() -> None:
    """Write what is missing."""
    FOLDER.mkdir(exist_ok=True)
    for name in SCENARIOS:
        path = FOLDER / f"{name}.jsonl"
        if not path.exists():
            write(path, make(name))


if __name__ == "__main__":
    main()
