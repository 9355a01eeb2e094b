"""A certificate hierarchy shaped like Intel's for SGX, and plainly not Intel's: every subject says SIMULATED.

Root CA -> Platform CA -> PCK leaf (with the SGX extension), root CA -> TCB signer, both revocation lists, TCB info
and QE identity. An unmodified DCAP verifier accepts it when it is handed this root, and refuses it otherwise.

What is on disk, in one directory:

- `root.der`, `collateral.json`: public; what an owner registers with a key broker to accept this machine.
- `pck-chain.pem`: leaf, Platform CA, root; public, part of every quote.
- `pck.key`, `attestation.key`: PKCS #8, mode 0600; they sign the QE report and the quotes.

The keys of both CAs and of the TCB signer exist only while `create` runs: no second platform can appear under a root
once it is made. That is why collateral lives as long as the certificates; there is no TCB recovery to publish for a
simulated CPU. A machine's root vouches for that machine alone.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from orchestrator.faults import Code, Permanent
from workers.host.libos.sim.collateral import TcbStatus, Validity, qe_identity, tcb_info
from workers.host.libos.sim.pck_extension import PlatformTcb, pck_extension

if TYPE_CHECKING:
    from pathlib import Path

ORGANISATION: Final = "SIMULATED - not Intel"
FMSPC: Final = b"SIM\x00\x00\x01"
CPU_SVN: Final = bytes([2] * 8 + [0] * 8)
PCE_SVN: Final = 11
PCE_ID: Final = bytes(2)
_LIFETIME: Final = timedelta(days=3650)
# A verifier tells a Platform CA from a Processor CA by the words of its common name, so Intel's stay in it.
_ROOT, _PLATFORM_CA = "SIMULATED Intel SGX Root CA", "SIMULATED Intel SGX PCK Platform CA"
_TCB_SIGNER, _PCK = "SIMULATED Intel SGX TCB Signing", "SIMULATED Intel SGX PCK Certificate"


@dataclass(frozen=True, slots=True)
class _Authority:
    """A key and the name it issues under."""

    name: str
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def generate(cls, name: str) -> _Authority:
        return cls(name, ec.generate_private_key(ec.SECP256R1()))


class SimulatedPki:
    """One machine's simulated hierarchy. Make it with `create` once, `load` it ever after."""

    __slots__ = ("_attestation_key", "_collateral", "_pck_chain", "_pck_key", "_root_der")

    def __init__(
        self,
        root_der: bytes,
        collateral: str,
        pck_chain: bytes,
        pck_key: ec.EllipticCurvePrivateKey,
        attestation_key: ec.EllipticCurvePrivateKey,
    ) -> None:
        self._root_der = root_der
        self._collateral = collateral
        self._pck_chain = pck_chain
        self._pck_key = pck_key
        self._attestation_key = attestation_key

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        tcb_status: TcbStatus = "UpToDate",
        advisories: tuple[str, ...] = (),
        now: datetime | None = None,
    ) -> SimulatedPki:
        """Make a new hierarchy and store it as `directory`, which must not exist yet (else `Permanent(INPUT)`).

        The directory appears whole or not at all. `tcb_status` and `advisories` (such as "INTEL-SA-99999") are what
        the collateral will say of this platform; `now` dates everything (default: the clock), for ten years.
        """
        if directory.exists():
            raise Permanent(Code.INPUT, "there is already something here", expected="a new path", got=str(directory))
        begin = (now or datetime.now(UTC)).replace(microsecond=0) - timedelta(days=1)
        pki = cls._issue(Validity(begin, begin + _LIFETIME), tcb_status, advisories)
        unfinished = directory.with_name(f"{directory.name}.{secrets.token_hex(4)}.new")
        unfinished.mkdir(mode=0o755, parents=True)
        try:
            pki.store(unfinished)
            unfinished.rename(directory)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return pki

    @classmethod
    def load(cls, directory: Path) -> SimulatedPki:
        """Read what `create` stored. `Permanent(NOT_FOUND)` when a file is missing, `INPUT` when it is damaged."""
        try:
            return cls(
                (directory / "root.der").read_bytes(),
                (directory / "collateral.json").read_text("utf-8"),
                (directory / "pck-chain.pem").read_bytes(),
                _private_key((directory / "pck.key").read_bytes()),
                _private_key((directory / "attestation.key").read_bytes()),
            )
        except FileNotFoundError as missing:
            raise Permanent(
                Code.NOT_FOUND,
                "the simulated certificate hierarchy is not complete",
                expected=str(missing.filename),
                advice="create it once with SimulatedPki.create; quotes made before stay under the old root",
            ) from missing
        except ValueError as damaged:
            raise Permanent(
                Code.INPUT, "a key of the simulated hierarchy is damaged", expected="P-256, PKCS #8", got=str(directory)
            ) from damaged

    def collateral_json(self) -> str:
        """The collateral as the JSON text that `dcap_qvl.QuoteCollateralV3.from_json` reads."""
        return self._collateral

    def root_der(self) -> bytes:
        """The root certificate, DER: the trust anchor to hand to `dcap_qvl.verify_with_root_ca`."""
        return self._root_der

    def pck_chain(self) -> bytes:
        """PEM: leaf, Platform CA, root. Certification data of type 5 in a quote."""
        return self._pck_chain

    def attestation_public_key(self) -> bytes:
        """The attestation key's public point: x then y, 32 bytes each, big endian."""
        return self._attestation_key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )[1:]

    def sign_with_attestation_key(self, message: bytes) -> bytes:
        """ECDSA P-256 with SHA-256 by the quoting enclave: r then s, 32 bytes each."""
        return _sign(self._attestation_key, message)

    def sign_with_pck(self, message: bytes) -> bytes:
        """ECDSA P-256 with SHA-256 by the platform's certification key: r then s, 32 bytes each."""
        return _sign(self._pck_key, message)

    def store(self, directory: Path) -> None:
        """Write every file into `directory`, which exists and is empty; private keys get mode 0600."""
        _write(directory / "pck.key", _pkcs8(self._pck_key), 0o600)
        _write(directory / "attestation.key", _pkcs8(self._attestation_key), 0o600)
        _write(directory / "pck-chain.pem", self._pck_chain, 0o644)
        _write(directory / "root.der", self._root_der, 0o644)
        _write(directory / "collateral.json", self._collateral.encode(), 0o644)

    @classmethod
    def _issue(cls, validity: Validity, tcb_status: TcbStatus, advisories: tuple[str, ...]) -> SimulatedPki:
        root, platform_ca = _Authority.generate(_ROOT), _Authority.generate(_PLATFORM_CA)
        tcb_signer, pck = _Authority.generate(_TCB_SIGNER), _Authority.generate(_PCK)
        platform = PlatformTcb(secrets.token_bytes(16), FMSPC, PCE_ID, secrets.token_bytes(16), CPU_SVN, PCE_SVN)
        root_certificate = _certificate(root, root, validity, path_length=1)
        platform_certificate = _certificate(platform_ca, root, validity, path_length=0)
        tcb_certificate = _certificate(tcb_signer, root, validity)
        leaf = _certificate(pck, platform_ca, validity, extension=pck_extension(platform))
        info = tcb_info(platform, validity, tcb_status, advisories)
        identity = qe_identity(validity)
        signer_chain = _pem(tcb_certificate, root_certificate).decode()
        collateral = {
            "pck_crl_issuer_chain": _pem(platform_certificate, root_certificate).decode(),
            "root_ca_crl": _revocation_list(root, validity).hex(),
            "pck_crl": _revocation_list(platform_ca, validity).hex(),
            "tcb_info_issuer_chain": signer_chain,
            "tcb_info": info,
            "tcb_info_signature": _sign(tcb_signer.key, info.encode()).hex(),
            "qe_identity_issuer_chain": signer_chain,
            "qe_identity": identity,
            "qe_identity_signature": _sign(tcb_signer.key, identity.encode()).hex(),
        }
        return cls(
            root_certificate.public_bytes(serialization.Encoding.DER),
            json.dumps(collateral, indent=1),
            _pem(leaf, platform_certificate, root_certificate),
            pck.key,
            ec.generate_private_key(ec.SECP256R1()),
        )


def _subject(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        ]
    )


def _certificate(
    subject: _Authority,
    issuer: _Authority,
    validity: Validity,
    *,
    path_length: int | None = None,
    extension: x509.UnrecognizedExtension | None = None,
) -> x509.Certificate:
    """A certificate of Intel's profile; a CA where `path_length` is given."""
    is_ca = path_length is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(subject.name))
        .issuer_name(_subject(issuer.name))
        .public_key(subject.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.begin)
        .not_valid_after(validity.end)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject.key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_ca,
                content_commitment=not is_ca,
                key_cert_sign=is_ca,
                crl_sign=is_ca,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def _revocation_list(issuer: _Authority, validity: Validity) -> bytes:
    """An empty revocation list, DER."""
    revocations = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(_subject(issuer.name))
        .last_update(validity.begin)
        .next_update(validity.end)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    return revocations.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ValueError("not a P-256 key")


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
