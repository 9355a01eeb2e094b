"""A payload's reference values as a signed document: what its bundles measure to, said by who releases it.

A DSSE envelope (github.com/secure-systems-lab/dsse, protocol.md and envelope.md) around an in-toto Statement v1, signed
by a cosign key: what `cosign attest` makes and `cosign verify-attestation` reads. The statement's subject is the
payload, by its digest; its predicate:

    {"version": "0.1.0", "issued": "2026-11-24T04:30:00Z", "inputs": "sha256:...",
     "measurements": {"sim": {"agent": "<64 hex>", "boot": "<64 hex>"}}}

`issued`, the signer's clock in UTC, orders documents: who accepts them takes none that is older than the last.

`verify`, nothing of the statement being read before 3:

1. the envelope has exactly its members, each of its type, in at most 64 KiB,
2. its payload is an in-toto statement,
3. one of its signatures verifies under the owner's key,
4. the statement is one of reference values, of this version, with nothing in it that is not known.

Zone: owner. May import: `deploy.publish.cosign_key`, `workers.enclave.image`, `orchestrator.faults`, `schemas`.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Permanent
from schemas.strict_json import JsonObject, Malformed, base64_bytes, nested, only, parse_object, text
from workers.enclave.image.signature import PublicKey, Signature

if TYPE_CHECKING:
    from deploy.publish.cosign_key import SigningKey

ENVELOPE_TYPE: Final = "application/vnd.dsse.envelope.v1+json"
PREDICATE: Final = "urn:enclave-cc:reference-values:v1"
LONGEST: Final = 64 * 1024
"""Bytes of an envelope."""

_STATEMENT_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_MOST_SIGNATURES: Final = 8
_MEASUREMENT: Final = re.compile(r"[0-9a-f]{64}")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_WORD: Final = re.compile(r"[\x21-\x7e]{1,128}")
_ISSUED: Final = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]Z")


@dataclass(frozen=True, slots=True)
class References:
    """`payload` and `inputs` are `sha256:...`; `issued` is UTC to the second, and sorts as text.

    `measurements`: by LibOS and bundle, lower-case hex.
    """

    payload: str
    version: str
    issued: str
    inputs: str
    measurements: Mapping[str, Mapping[str, str]]

    def of(self, bundle: str) -> tuple[str, ...]:
        """What that bundle measures to, for each LibOS."""
        return tuple(sorted({parts[bundle] for parts in self.measurements.values() if bundle in parts}))


def now(clock: Callable[[], float] = time.time) -> str:
    """`issued` of a document that is signed now."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock()))


def sign(references: References, key: SigningKey) -> bytes:
    """The envelope, one line of JSON."""
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": "enclave-cc/payload", "digest": {"sha256": references.payload.removeprefix("sha256:")}}],
        "predicateType": PREDICATE,
        "predicate": {
            "version": references.version,
            "issued": references.issued,
            "inputs": references.inputs,
            "measurements": {libos: dict(parts) for libos, parts in references.measurements.items()},
        },
    }
    body = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    signature = base64.b64encode(key.sign(_signed(_STATEMENT_TYPE, body))).decode()
    envelope = {
        "payloadType": _STATEMENT_TYPE,
        "payload": base64.b64encode(body).decode(),
        "signatures": [{"keyid": key.public().fingerprint, "sig": signature}],
    }
    return json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def verify(raw: bytes, key: PublicKey) -> References:
    """Checks 1 to 4.

    Raises Permanent: REFERENCES_FORMAT; REFERENCES_KEY, where no signature is said to be this key's;
    REFERENCES_ALTERED, where one is and does not verify.
    """
    try:
        body = _verified(raw, key)
        return _parse(body)
    except Malformed as malformed:
        raise _unknown(str(malformed)) from None


def _verified(raw: bytes, key: PublicKey) -> bytes:
    """Checks 1 to 3: the statement."""
    if len(raw) > LONGEST:
        raise Malformed(f"more than {LONGEST} bytes")
    envelope = parse_object(raw)
    only(envelope, "payloadType", "payload", "signatures")
    body = base64_bytes(text(envelope, "payload"), "payload")
    signatures = _signatures(envelope)
    if (kind := text(envelope, "payloadType")) != _STATEMENT_TYPE:
        raise Malformed(f"payloadType: {_STATEMENT_TYPE} is expected, not {kind[:100]!a}")
    for _, signature in signatures:
        try:
            key.verify(Signature(_signed(kind, body), signature))
        except Permanent:
            continue
        return body
    # A key id proves nothing: it only tells the two mistakes apart.
    named = [name for name, _ in signatures]
    if key.fingerprint in named:
        raise Permanent(
            Code.REFERENCES_ALTERED,
            "the reference values are not what was signed",
            expected=f"a signature of {key.fingerprint} over this statement",
            got="its signature, over another one",
            advice="accept nothing of it: fetch the document again from where the payload was released",
        )
    raise Permanent(
        Code.REFERENCES_KEY,
        "the reference values are not signed with the owner's key",
        expected=key.fingerprint,
        got=", ".join(map(ascii, named))[:500],
        advice="give the public key of whoever released the payload",
    )


def _signatures(envelope: JsonObject) -> list[tuple[str, bytes]]:
    listed = envelope.get("signatures")
    if not isinstance(listed, list) or not 1 <= len(listed) <= _MOST_SIGNATURES:
        raise Malformed(f"signatures: 1 to {_MOST_SIGNATURES} are expected")
    found = []
    for entry in listed:
        if not isinstance(entry, dict):
            raise Malformed("signatures: objects are expected")
        only(entry, "keyid", "sig")
        found.append((text({"keyid": "", **entry}, "keyid"), base64_bytes(text(entry, "sig"), "sig")))
    return found


def _parse(body: bytes) -> References:
    """Check 4."""
    statement = parse_object(body)
    only(statement, "_type", "subject", "predicateType", "predicate")
    if (text(statement, "_type"), text(statement, "predicateType")) != (_STATEMENT, PREDICATE):
        raise Malformed(f"{_STATEMENT} with {PREDICATE} is expected")
    subjects = statement.get("subject")
    if not isinstance(subjects, list) or len(subjects) != 1 or not isinstance(subjects[0], dict):
        raise Malformed("subject: one payload is expected")
    predicate = nested(statement, "predicate")
    only(predicate, "version", "issued", "inputs", "measurements")
    measurements = nested(predicate, "measurements")
    found = {
        _matching(_WORD, libos): {
            _matching(_WORD, part): _matching(_MEASUREMENT, value) for part, value in parts.items()
        }
        for libos, parts in ((libos, nested(measurements, libos)) for libos in measurements)
    }
    if not found or not all("agent" in parts for parts in found.values()):
        raise Malformed("measurements: an agent's is expected for each LibOS")
    return References(
        payload=_matching(_DIGEST, f"sha256:{text(nested(subjects[0], 'digest'), 'sha256')}"),
        version=_matching(_WORD, text(predicate, "version")),
        issued=_matching(_ISSUED, text(predicate, "issued")),
        inputs=_matching(_DIGEST, text(predicate, "inputs")),
        measurements=found,
    )


def _matching(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Malformed(f"{ascii(value)[:100]} is not as it should be")
    return value


def _signed(kind: str, body: bytes) -> bytes:
    """DSSE's pre-authentication encoding: lengths bind the type to the bytes."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


def _unknown(got: str) -> Permanent:
    return Permanent(
        Code.REFERENCES_FORMAT,
        "this holds no reference values that are known here",
        expected="what `enclave-cc payload sign` writes, of this version",
        got=got[:500],
        advice="is it the right file, and is this enclave-cc as new as the release?",
    )
