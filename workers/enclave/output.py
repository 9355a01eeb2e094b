"""A key for what a workload writes, wrapped for those whom the owner's policy names.

Zone: enclave. May import: `workers.enclave.launch_policy`, `schemas`, `joserfc`, the standard library.

The key is fresh for each container. It goes to the app enclave over the attested channel, and into the head of the
sealed output as one JWE (RFC 7516 section 7.2.1; ECDH-ES+A256KW, A256GCM), and nowhere else.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any, Final

from joserfc import jwe
from joserfc.jwk import ECKey, OKPKey

from schemas.recipients import Recipient
from schemas.sealed_output import KEY_BYTES, STREAMS, Head
from workers.enclave.boot.output import OutputSeal

ALGORITHMS: Final = ("ECDH-ES+A256KW", "A256GCM")


def seal_for(
    recipients: Sequence[Recipient], pod: str, container: str, attempt: int, *, terminal: bool
) -> OutputSeal | None:
    """A key and its head; None where the output is sealed for nobody. A terminal has one stream."""
    if not recipients:
        return None
    key, streams = secrets.token_bytes(KEY_BYTES), STREAMS[:1] if terminal else STREAMS
    head = Head(pod, container, attempt, streams, json.dumps(_wrapped(key, recipients), separators=(",", ":")))
    return OutputSeal(head.encode(), streams, key)


def _wrapped(key: bytes, recipients: Sequence[Recipient]) -> dict[str, Any]:
    jwe_object = jwe.GeneralJSONEncryption({"enc": ALGORITHMS[1]}, key)
    for recipient in recipients:
        jwe_object.add_recipient({"alg": ALGORITHMS[0], "kid": recipient.thumbprint}, _public(recipient))
    return dict(jwe.encrypt_json(jwe_object, None, algorithms=list(ALGORITHMS)))


def _public(recipient: Recipient) -> ECKey | OKPKey:
    jwk: dict[str, Any] = recipient.jwk()
    return OKPKey.import_key(jwk) if recipient.curve == "X25519" else ECKey.import_key(jwk)
