"""Certificates that a person names on a command line.

Zone: any. May import: `cryptography`, `orchestrator.faults`, the standard library.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.faults import Code, Permanent


def certificate(path: Path) -> bytes:
    """The certificate's DER, from either form. Raises Permanent(INPUT)."""
    raw = path.read_bytes()
    try:
        pem = raw.lstrip().startswith(b"-----BEGIN")
        parsed = x509.load_pem_x509_certificate(raw) if pem else x509.load_der_x509_certificate(raw)
    except ValueError as error:
        raise Permanent(
            Code.INPUT, f"{path} is no certificate", expected="a root certificate, DER or PEM", got=f"{len(raw)} bytes"
        ) from error
    return parsed.public_bytes(Encoding.DER)
