"""The roots that a platform's certificates may end at: Intel's, and those the owner names, which are simulated.

A root is told by the SHA-384 of its public key (Intel's name for it: root key id). Everything under a root that is not
Intel's is a simulation, whatever else it is: such an anchor cannot be configured to say otherwise.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.faults import Code, Permanent
from schemas.strict_json import Malformed

if TYPE_CHECKING:
    from pathlib import Path

# SHA-384 of the public key of "Intel SGX Root CA", whose certificate dcap-qvl has built in.
INTEL_ROOT_KEY_ID: Final = (
    "46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5dcf58eef31463613de1570d516200993"
)
_FMSPC: Final = re.compile(r"[0-9A-F]{12}")


@dataclass(frozen=True, slots=True)
class Anchor:
    """One root. `root_der` is None for Intel's; `collateral` is a file, for Intel's a folder of `<FMSPC>.json`."""

    name: str
    root_key_id: str
    root_der: bytes | None
    collateral: Path

    @property
    def simulated(self) -> bool:
        """Whether the platforms under this root are simulated."""
        return self.root_key_id != INTEL_ROOT_KEY_ID

    def collateral_for(self, fmspc: str) -> str:
        """The collateral of platforms of that FMSPC (12 upper-case hex digits). OSError when there is none.

        Read anew each time: collateral expires and is renewed while the broker runs.
        """
        if self.root_der is not None:
            return self.collateral.read_text("utf-8")
        if not _FMSPC.fullmatch(fmspc):
            raise FileNotFoundError(fmspc)
        return (self.collateral / f"{fmspc}.json").read_text("utf-8")


def intel(collateral: Path) -> Anchor:
    """Intel's root; `collateral` is a folder."""
    return Anchor("intel", INTEL_ROOT_KEY_ID, None, collateral)


def simulated(name: str, root: Path, collateral: Path) -> Anchor:
    """A root of simulated platforms, from its certificate in DER. `Permanent` when the file cannot be used."""
    try:
        der = root.read_bytes()
        key_id = root_key_id(x509.load_der_x509_certificate(der))
    except FileNotFoundError:
        raise Permanent(Code.NOT_FOUND, f"the root of {name} is missing", expected=str(root)) from None
    except (ValueError, x509.InvalidVersion) as error:
        raise Permanent(
            Code.INPUT, f"the root of {name} is no certificate", expected="DER, P-256", got=str(root)
        ) from error
    if key_id == INTEL_ROOT_KEY_ID:
        raise Permanent(Code.INPUT, f"the root of {name} is Intel's own", advice="configure it as sgx.intel_collateral")
    return Anchor(name, key_id, der, collateral)


def root_key_id(root: x509.Certificate) -> str:
    """SHA-384 of the root's public point, uncompressed, in hex; `Malformed` when it has no EC key."""
    try:
        public = root.public_key()
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise Malformed("an EC key is expected")
    point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return hashlib.sha384(point).hexdigest()
