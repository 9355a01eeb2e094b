"""Who is an enclave of the simulated CPU, shown with real containers, and what such an enclave can prove."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time

import dcap_qvl
import pytest

from orchestrator.faults import Code, Permanent
from schemas.sgx import Flags, KeyPolicy
from tests.simulators.enclave_bundle import ARGV, ENV
from tests.simulators.enclaves import NO_CONFIG, CpuProcess, until
from workers.enclave.tee.quote import parse_quote
from workers.enclave.tee.sim import SimulatedTee
from workers.host.libos.sim.measurement import measure_image


def test_a_running_enclave_reports_the_measurement_that_its_image_file_gives(image, enclave):
    assert enclave().target().mrenclave == measure_image(image).mrenclave


def test_one_enclave_checks_the_report_of_another(enclave):
    one, two = enclave(), enclave()
    report = one.report(two.target(), b"hello")
    assert two.ask("verify", report=report.encode().hex()) == {"verified": True}
    assert report.body.report_data == b"hello".ljust(64, b"\0")


def test_a_quote_is_accepted_by_an_independent_verifier_under_the_simulated_root(cpu, enclave, image):
    quote = enclave(config_id=b"c" * 64).quote(b"nonce")
    pki = cpu.pki()
    collateral = dcap_qvl.QuoteCollateralV3.from_json(pki.collateral_json())
    verified = dcap_qvl.verify_with_root_ca(quote, collateral, pki.root_der(), int(time.time()))
    assert verified.status == "UpToDate"
    body = parse_quote(quote).body
    assert body.mrenclave == measure_image(image).mrenclave
    assert body.config_id == b"c" * 64
    assert body.report_data == b"nonce".ljust(64, b"\0")
    assert not body.attributes.debug
    with pytest.raises(ValueError, match="root CA"):
        dcap_qvl.verify(quote, collateral, int(time.time()))


def test_a_debug_enclave_shows_in_its_quote_and_is_refused_by_the_verifier(cpu, enclave):
    quote = enclave(debug=True).quote()
    assert parse_quote(quote).body.attributes.flags & Flags.DEBUG
    pki = cpu.pki()
    collateral = dcap_qvl.QuoteCollateralV3.from_json(pki.collateral_json())
    with pytest.raises(ValueError, match="Debug"):
        dcap_qvl.verify_with_root_ca(quote, collateral, pki.root_der(), int(time.time()))


def test_flipping_any_part_of_a_report_makes_it_worthless(enclave):
    one, two = enclave(), enclave()
    good = one.report(two.target()).encode()
    for at in (0, 64, 192, 320, 400, 431):
        flipped = bytearray(good)
        flipped[at] ^= 1
        assert two.ask("verify", report=flipped.hex())["code"] == Code.CONFIG_LOCAL_ATTESTATION


def test_a_report_for_one_enclave_is_worthless_to_an_enclave_with_another_config(enclave):
    one, two, three = enclave(), enclave(config_id=b"2" * 64), enclave(config_id=b"3" * 64)
    report = one.report(two.target()).encode().hex()
    assert two.ask("verify", report=report) == {"verified": True}
    assert three.ask("verify", report=report)["code"] == Code.CONFIG_LOCAL_ATTESTATION


def test_a_process_outside_any_enclave_gets_nothing(cpu):
    with pytest.raises(Permanent) as refused:
        SimulatedTee(cpu.socket).my_target_info()
    assert refused.value.code is Code.ATTEST_QUOTE
    assert "NOT_AN_ENCLAVE" in refused.value.diagnosis.got


def test_a_container_of_the_bundle_that_was_never_entered_gets_nothing(container, enclave):
    enclave()
    other = container()
    other.start()
    assert_refused(other.ask("target"), "NOT_AN_ENCLAVE")


@pytest.mark.parametrize(
    "differences",
    [
        {"argv": [*ARGV, "--one-more"]},
        {"argv": [*ARGV[:1], "-B", *ARGV[1:]]},
        {"env": {**ENV, "LD_PRELOAD": ""}},
        {"env": {"HOME": "/", "LANG": "C.UTF-8", "PATH": "/usr/bin:/run"}},
        {"env": {name: value for name, value in ENV.items() if name != "LANG"}},
    ],
    ids=["another argument", "an option in front", "a variable more", "a value changed", "a variable less"],
)
def test_an_enclave_started_otherwise_than_measured_gets_nothing(enclave, differences):
    for do in ("target", "quote", "seal"):
        assert_refused(enclave(**differences).ask(do, data="", policy=1), "NOT_AS_MEASURED")


def test_another_program_under_the_measured_arguments_gets_nothing(enclave, bundle, tmp_path):
    """`exec -a` gives a shell's copy of the interpreter the measured arguments: the file that runs tells them apart."""
    copy = tmp_path / "python"
    shutil.copy2(ARGV[0], copy)
    script = f"import os; os.execve('/run/python', {ARGV!r}, dict(os.environ))"
    other = enclave(argv=[ARGV[0], "-S", "-c", script], binds={"/run/python": copy})
    assert_refused(other.ask("target"), "NOT_AS_MEASURED")


def test_a_container_with_another_root_cannot_be_entered(container, image, tmp_path):
    same_bytes = tmp_path / "same.erofs"
    shutil.copy2(image, same_bytes)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["mount", "-t", "erofs", "-o", "loop,ro", same_bytes, elsewhere], check=True)
    try:
        other = container(root=elsewhere)
        with pytest.raises(Permanent, match="cannot become an enclave") as refused:
            other.enter()
        assert refused.value.code is Code.AGENT_MEASUREMENT
        other.remove()
    finally:
        subprocess.run(["umount", "--lazy", elsewhere], check=True)


@pytest.mark.parametrize("over", ["/usr", "/etc", "/app", "/usr/bin/python3.11"])
def test_a_container_with_something_mounted_over_the_bundle_cannot_be_entered(container, bundle, over):
    other = container(binds={over: bundle.path / over[1:]})
    with pytest.raises(Permanent, match="cannot become an enclave") as refused:
        other.enter()
    assert refused.value.code is Code.AGENT_MEASUREMENT
    assert over in refused.value.diagnosis.got


def test_a_container_without_a_pid_namespace_of_its_own_cannot_be_entered(container):
    other = container(namespaces=("mount", "ipc", "uts"))
    with pytest.raises(Permanent) as refused:
        other.enter()
    assert refused.value.code is Code.INPUT


def test_no_process_can_be_entered_that_does_not_exist_or_is_not_the_first(cpu, bundle):
    for pid in (2**22, os.getpid()):
        with pytest.raises(Permanent) as refused:
            asyncio.run(cpu.libos.enter(pid, bundle, NO_CONFIG))
        assert refused.value.code is Code.INPUT


def test_a_process_put_into_an_enclave_later_gets_nothing(enclave):
    running = enclave()
    assert_refused(running.exec('{"do": "quote", "data": ""}'), "NOT_AN_ENCLAVE")
    assert "quote" in running.ask("quote", data="")


def test_a_child_of_an_enclave_gets_nothing(enclave):
    assert_refused(enclave().ask("child"), "NOT_AN_ENCLAVE")


def test_entering_twice_gives_the_same_enclave_and_never_another_one(container):
    fresh = container()
    fresh.enter()
    fresh.enter()
    for differently in ({"config_id": b"x" * 64}, {"debug": True}):
        with pytest.raises(Permanent) as refused:
            fresh.enter(**differently)
        assert "already another enclave" in refused.value.diagnosis.got
    fresh.start()
    assert not fresh.target().attributes.debug


def test_an_enclave_that_closed_itself_to_others_is_still_seen_by_its_cpu(enclave):
    running = enclave()
    assert running.ask("harden") == {"hardened": True}
    assert "quote" in running.ask("quote", data="")


def test_an_enclave_that_ended_is_forgotten(cpu, enclave):
    running = enclave()
    assert running.pid in pids(cpu)
    os.kill(running.pid, 9)
    until(lambda: running.pid not in pids(cpu), "the dead enclave is gone")


def test_a_released_enclave_gets_nothing_and_releasing_again_is_no_error(cpu, enclave):
    running = enclave()
    for _ in range(2):
        asyncio.run(cpu.libos.release(running.pid))
    assert_refused(running.ask("target"), "NOT_AN_ENCLAVE")


def test_a_sealing_key_comes_back_to_an_equal_enclave_and_to_no_other(enclave):
    def key(policy: KeyPolicy, **differences) -> str:
        return enclave(**differences).ask("seal", policy=policy.value)["key"]

    by_code, by_config = KeyPolicy.MRENCLAVE, KeyPolicy.MRENCLAVE | KeyPolicy.CONFIGID
    assert key(by_code) == key(by_code) == key(by_code, config_id=b"x" * 64)
    assert key(by_config) != key(by_config, config_id=b"x" * 64)
    assert key(by_code) != key(by_code, debug=True)


def test_no_sealing_key_is_bound_to_the_signer_that_simulated_enclaves_do_not_have(enclave):
    assert_refused(enclave().ask("seal", policy=KeyPolicy.MRSIGNER.value), "KEY_REFUSED")


def assert_refused(reply: dict, why: str) -> None:
    assert reply["code"] == Code.ATTEST_QUOTE
    assert why in reply["got"]


def pids(cpu: CpuProcess) -> set[int]:
    return {running.pid for running in asyncio.run(cpu.libos.status()).enclaves}
