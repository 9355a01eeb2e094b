"""The simulated hierarchy and its quotes, judged by an independent DCAP verifier."""

from __future__ import annotations

import json
import stat
import time
from datetime import UTC, datetime, timedelta

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from orchestrator.faults import Code, Permanent
from schemas.sgx import Attributes, Flags, MalformedStructure, ReportBody
from workers.enclave.tee.quote import parse_quote
from workers.host.libos.sim.pki import CPU_SVN, FMSPC, ORGANISATION, PCE_SVN, SimulatedPki
from workers.host.libos.sim.quote import sign_quote

BODY = ReportBody(
    b"e" * 32, bytes(32), Attributes(Flags.INIT | Flags.MODE64BIT | Flags.KSS, 3), b"d" * 64, cpu_svn=CPU_SVN
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return SimulatedPki.create(tmp_path_factory.mktemp("pki") / "pki")


def verify(pki, quote, *, now=None, root=None):
    collateral = dcap_qvl.QuoteCollateralV3.from_json(pki.collateral_json())
    return dcap_qvl.verify_with_root_ca(quote, collateral, root or pki.root_der(), now or int(time.time()))


def test_a_quote_verifies_under_its_own_root_and_no_other(pki, tmp_path):
    quote = sign_quote(pki, BODY.encode())
    assert verify(pki, quote).status == "UpToDate"
    with pytest.raises(ValueError, match="root CA"):
        dcap_qvl.verify(quote, dcap_qvl.QuoteCollateralV3.from_json(pki.collateral_json()), int(time.time()))
    other = SimulatedPki.create(tmp_path / "other")
    with pytest.raises(ValueError, match="Verification failed"):
        verify(pki, quote, root=other.root_der())
    with pytest.raises(ValueError, match="Verification failed"):
        verify(other, quote)


def test_the_verifier_reads_what_was_written(pki):
    quote = dcap_qvl.parse_quote(sign_quote(pki, BODY.encode()))
    assert (quote.quote_type(), quote.ca(), quote.fmspc()) == ("SGX", "platform", FMSPC.hex().upper())
    assert quote.report.mr_enclave == BODY.mrenclave
    assert quote.report.report_data == BODY.report_data
    extension = quote.pck_extension()
    assert (extension.cpu_svn, extension.pce_svn) == (CPU_SVN, PCE_SVN)


def test_any_flipped_byte_of_what_is_signed_is_refused(pki):
    good = sign_quote(pki, BODY.encode())
    for at in (0, 12, 48, 112, 240, 368, 431, 436, 500, 564, 948, 1014):
        flipped = bytearray(good)
        flipped[at] ^= 1
        with pytest.raises(ValueError, match=r"ailed|xpired|nvalid"):
            verify(pki, bytes(flipped))


def test_a_debug_enclave_is_refused(pki):
    debug = ReportBody(b"e" * 32, bytes(32), Attributes(Flags.INIT | Flags.DEBUG, 3), bytes(64), cpu_svn=CPU_SVN)
    with pytest.raises(ValueError, match="Debug"):
        verify(pki, sign_quote(pki, debug.encode()))


def test_an_older_cpu_matches_no_tcb_level(pki):
    old = ReportBody(b"e" * 32, bytes(32), BODY.attributes, bytes(64), cpu_svn=bytes(16))
    assert verify(pki, sign_quote(pki, old.encode())).status == "UpToDate"  # DCAP judges the certificate's CPUSVN


@pytest.mark.parametrize("status", ["OutOfDate", "SWHardeningNeeded", "ConfigurationNeeded"])
def test_a_tcb_status_comes_through_with_its_advisories(tmp_path, status):
    pki = SimulatedPki.create(tmp_path / "pki", tcb_status=status, advisories=("INTEL-SA-99999",))
    verified = verify(pki, sign_quote(pki, BODY.encode()))
    assert verified.status == status
    assert verified.advisory_ids == ["INTEL-SA-99999"]


def test_a_revoked_tcb_is_refused(tmp_path):
    pki = SimulatedPki.create(tmp_path / "pki", tcb_status="Revoked")
    with pytest.raises(ValueError, match="evoked"):
        verify(pki, sign_quote(pki, BODY.encode()))


def test_everything_expires_and_nothing_holds_before_its_time(tmp_path):
    made = datetime(2026, 1, 1, tzinfo=UTC)
    pki = SimulatedPki.create(tmp_path / "pki", now=made)
    quote = sign_quote(pki, BODY.encode())
    assert verify(pki, quote, now=int(made.timestamp())).status == "UpToDate"
    for moment in (made - timedelta(days=2), made + timedelta(days=3651)):
        with pytest.raises(ValueError, match=r"ailed|xpired|nvalid"):
            verify(pki, quote, now=int(moment.timestamp()))


def test_every_certificate_says_that_it_is_simulated(pki):
    collateral = json.loads(pki.collateral_json())
    chains = [pki.pck_chain(), *(collateral[name].encode() for name in collateral if name.endswith("_chain"))]
    for certificate in (one for chain in chains for one in x509.load_pem_x509_certificates(chain)):
        for name in (certificate.subject, certificate.issuer):
            assert name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == ORGANISATION
            assert name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value.startswith("SIMULATED ")


def test_what_is_stored_loads_again_and_private_keys_are_private(tmp_path):
    made = SimulatedPki.create(tmp_path / "deep/pki")
    loaded = SimulatedPki.load(tmp_path / "deep/pki")
    assert loaded.root_der() == made.root_der()
    assert verify(made, sign_quote(loaded, BODY.encode())).status == "UpToDate"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep/pki").iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o600} == {"pck.key", "attestation.key"}
    assert len(modes) == 5, "the keys of both authorities and of the TCB signer are kept nowhere"


def test_a_hierarchy_is_never_replaced(tmp_path):
    SimulatedPki.create(tmp_path / "pki")
    with pytest.raises(Permanent) as refused:
        SimulatedPki.create(tmp_path / "pki")
    assert refused.value.code is Code.INPUT
    assert [path.name for path in tmp_path.iterdir()] == ["pki"]


def test_a_missing_or_damaged_hierarchy_is_told_apart(tmp_path):
    with pytest.raises(Permanent) as missing:
        SimulatedPki.load(tmp_path / "none")
    assert missing.value.code is Code.NOT_FOUND
    SimulatedPki.create(tmp_path / "pki")
    (tmp_path / "pki/pck.key").write_text("nonsense")
    with pytest.raises(Permanent) as damaged:
        SimulatedPki.load(tmp_path / "pki")
    assert damaged.value.code is Code.INPUT
    assert "nonsense" not in damaged.value.diagnostics()


def test_only_a_report_body_is_signed(pki):
    with pytest.raises(MalformedStructure):
        sign_quote(pki, bytes(383))


def test_our_own_parser_reads_the_quote(pki):
    quote = sign_quote(pki, BODY.encode())
    assert parse_quote(quote).body == BODY
    for broken in (quote[:-1], quote + b"\0", quote[:400], b"\4" + quote[1:], quote[:4] + b"\x81" + quote[5:]):
        with pytest.raises(Permanent) as refused:
            parse_quote(broken)
        assert refused.value.code is Code.ATTEST_QUOTE
