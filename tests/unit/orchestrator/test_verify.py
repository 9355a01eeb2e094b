"""Verifying a history offline, with quotes that an independent verifier accepts under the simulated root."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator import events
from orchestrator.events import Attested
from orchestrator.faults import Code, Permanent
from orchestrator.lifecycle import Zone
from orchestrator.verify import Verified, verify
from schemas.sgx import Attributes, Flags, ReportBody
from tests.simulators.history import APP, MEASUREMENT, POD, EventKey, History, attested, image_decrypted
from workers.host.libos.sim.pki import SimulatedPki
from workers.host.libos.sim.quote import sign_quote

START = datetime(2026, 1, 1, tzinfo=UTC)


class Platform:
    """A simulated CPU's certificates."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.pki = SimulatedPki.create(folder, now=START, **options)  # type: ignore[arg-type]

    def attested(self, key: EventKey, *, flags: Flags = Flags.INIT | Flags.MODE64BIT) -> Attested:
        body = ReportBody(
            mrenclave=MEASUREMENT,
            mrsigner=bytes(32),
            attributes=Attributes(flags, 3),
            report_data=events.event_key_binding(POD, key.public).ljust(64, b"\0"),
        )
        return replace(attested(POD, key), quote=sign_quote(self.pki, body.encode()))

    def verify(self, made: History) -> Verified:
        return verify(made.pod, made.records(), root_der=self.pki.root_der(), collateral=self.pki.collateral_json())


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return Platform(tmp_path_factory.mktemp("pki") / "pki")


def up_to_attestation(made: History) -> History:
    for step in (made.requested, made.sandboxed, made.agent_up):
        step()
    return made


def launched(platform: Platform, **quote: object) -> History:
    made = up_to_attestation(History())
    made.say(platform.attested(made.key, **quote), attempt=1)  # type: ignore[arg-type]
    for step in (made.container, made.decrypted, made.sealed, made.start, made.app_started, made.delivered):
        step()
    made.booted()
    return made


def refused(made: History, platform: Platform | None = None) -> Code:
    with pytest.raises(Permanent) as caught:
        _ = verify(made.pod, made.records()) if platform is None else platform.verify(made)
    diagnosis = caught.value.diagnosis
    assert diagnosis.expected
    assert diagnosis.got
    assert diagnosis.advice
    return diagnosis.code


def test_a_whole_launch_is_proved_down_to_the_quote(platform: Platform) -> None:
    found = platform.verify(launched(platform))
    assert (found.facts, found.signed, found.tcb_status) == (11, 5, "UpToDate")
    assert any("genuine under the given root; TCB UpToDate" in line for line in found.proved)


def test_what_is_not_proved_is_always_said(platform: Platform) -> None:
    not_proved = " | ".join(platform.verify(launched(platform)).not_proved)
    for said in ("no fact came after", "the CPU is simulated", "host facts", "compare the measurement", "host's word"):
        assert said in not_proved


def test_without_collateral_nothing_is_said_of_the_cpu(platform: Platform) -> None:
    found = verify(POD, launched(platform).records())
    assert found.tcb_status is None
    assert "that the quote comes from a genuine CPU: no root and collateral were given" in found.not_proved
    assert not any("genuine" in line for line in found.proved)


def test_a_quote_that_nobody_signed_is_refused(platform: Platform) -> None:
    made = History()
    made.up_to_booted()
    assert refused(made, platform) is Code.ATTEST_QUOTE


def test_a_quote_of_another_root_is_refused(platform: Platform, tmp_path: Path) -> None:
    assert refused(launched(platform), Platform(tmp_path / "other")) is Code.ATTEST_QUOTE


def test_a_simulated_quote_is_refused_under_intels_root(platform: Platform) -> None:
    with pytest.raises(Permanent, match="E-ATTEST-007"):
        verify(POD, launched(platform).records(), collateral=platform.pki.collateral_json())


def test_a_quote_of_a_debug_enclave_is_refused(platform: Platform) -> None:
    flags = Flags.INIT | Flags.MODE64BIT | Flags.DEBUG
    assert refused(launched(platform, flags=flags), platform) is Code.ATTEST_QUOTE


def test_a_platform_whose_tcb_is_revoked_is_refused_and_another_status_is_told(tmp_path: Path) -> None:
    revoked = Platform(tmp_path / "revoked", tcb_status="Revoked")
    assert refused(launched(revoked), revoked) is Code.ATTEST_QUOTE
    stale = Platform(tmp_path / "stale", tcb_status="OutOfDate")
    assert stale.verify(launched(stale)).tcb_status == "OutOfDate"


def test_the_quote_is_judged_as_of_its_fact(platform: Platform) -> None:
    made = up_to_attestation(History())
    made.now_ns += int(timedelta(days=5000).total_seconds()) * 10**9
    made.say(platform.attested(made.key), attempt=1)
    assert refused(made, platform) is Code.ATTEST_QUOTE


def test_altered_bits_of_the_quote_are_refused(platform: Platform) -> None:
    made = up_to_attestation(History())
    body = platform.attested(made.key)
    at = 500  # in the signature over the report
    body = replace(body, quote=body.quote[:at] + bytes([body.quote[at] ^ 1]) + body.quote[at + 1 :])
    made.say(body, attempt=1)
    assert refused(made, platform) is Code.ATTEST_QUOTE


def test_a_forged_fact_is_refused_wherever_it_stands(platform: Platform) -> None:
    made = launched(platform)
    made.say(image_decrypted(), container=APP, attempt=1, signed=False)
    assert refused(made, platform) is Code.FACT_FORGED
    stopped = launched(platform)
    stopped.stop()
    stopped.say(image_decrypted(), container=APP, attempt=1, signed=False)
    assert refused(stopped) is Code.FACT_FORGED


def test_a_broken_chain_is_refused(platform: Platform) -> None:
    made = launched(platform)
    del made.raw[4]
    assert refused(made, platform) is Code.BUS_HISTORY


def test_a_launch_that_was_never_attested_proves_nothing_of_an_enclave() -> None:
    made = up_to_attestation(History())
    found = verify(POD, made.records())
    assert (found.signed, len(found.proved)) == (0, 1)
    assert any("never attested" in line for line in found.not_proved)


def test_a_failure_before_the_attestation_counts_as_signed_only_if_it_was(platform: Platform) -> None:
    """The fold takes it unsigned; the verifier must not say more of it than it can check."""
    made = up_to_attestation(History())
    made.failed("attest", temporary=True, zone=Zone.ENCLAVE)
    made.failed("attest", attempt=2, temporary=True, zone=Zone.ENCLAVE, signed=False)
    made.failed("attest", attempt=3, temporary=True, zone=Zone.ENCLAVE, sign=EventKey().sign)
    made.say(platform.attested(made.key), attempt=4)
    found = platform.verify(made)
    assert found.signed == 2
    assert any(line.startswith("who stated the 2 failures before") for line in found.not_proved)


def test_there_is_nothing_to_verify_in_an_empty_history() -> None:
    for history in ([], [events.Foreign(1, "junk")]):
        with pytest.raises(Permanent, match="E-INPUT-002"):
            verify(POD, history)


def test_a_root_alone_is_refused(platform: Platform) -> None:
    with pytest.raises(Permanent, match="E-INPUT-001"):
        verify(POD, launched(platform).records(), root_der=platform.pki.root_der())
