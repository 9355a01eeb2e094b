"""The enclave's side of the CoCo KBS protocol: attest to the owner's key broker, get the resources it allows.

What belongs here: the handshake, the checks of everything the broker says, the key that resources are encrypted to.
What does not: which resources a launch needs, and how a quote is made (workers/enclave/tee).

Zone: enclave. May import: orchestrator.faults, schemas, cryptography, joserfc, urllib3.
"""

from __future__ import annotations

from workers.enclave.kbs.appraisal import Claims, TrustVector
from workers.enclave.kbs.client import AttestationResult, KbsClient, Quoter
from workers.enclave.kbs.uri import ResourceUri

__all__ = ["AttestationResult", "Claims", "KbsClient", "Quoter", "ResourceUri", "TrustVector"]
