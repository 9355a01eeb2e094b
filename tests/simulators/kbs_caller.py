"""Speaks the KBS protocol to a dispatcher, without a web server between: correctly, unless a test says otherwise."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from deploy.kbs.admin import admin_token
from deploy.kbs.api import Answer, Api, Call
from schemas.kbs import report_data, runtime_data
from tests.simulators.broker import MEASUREMENT
from workers.enclave.kbs.tee_key import TeeKey

if TYPE_CHECKING:
    from tests.simulators.broker import Enclave


@dataclass
class Caller:
    """A TEE and an owner in one."""

    api: Api
    admin_key: bytes
    key: TeeKey = field(default_factory=TeeKey)

    def send(self, method: str, path: str, body: bytes = b"", **more: Any) -> Answer:
        call = Call(method, f"/kbs/v0/{path}", "", body, None, None)
        return self.api.answer(replace(call, **more))

    def owner(self, method: str, path: str, body: bytes = b"") -> Answer:
        return self.send(method, path, body, authorization=f"Bearer {admin_token(self.admin_key)}")

    def reference(self, name: str, value: object) -> None:
        payload = base64.b64encode(json.dumps({name: value}).encode()).decode()
        message = {"version": "0.1.0", "type": "sample", "payload": payload}
        assert self.owner("POST", "reference-value", json.dumps(message).encode()).status == 200

    def list_enclave(self) -> None:
        self.reference("sgx_mr_enclave", [MEASUREMENT.hex()])
        self.reference("allow_simulated", True)

    def challenge(self) -> tuple[str, str]:
        """Nonce and session."""
        request = {"version": "0.4.0", "tee": "sgx", "extra-params": {}}
        answer = self.send("POST", "auth", json.dumps(request).encode())
        assert answer.status == 200
        assert answer.cookie is not None
        return json.loads(answer.body)["nonce"], answer.cookie.partition(";")[0].partition("=")[2]

    def evidence(self, tee: Enclave, nonce: str, init_data: str | None = None) -> dict[str, object]:
        """A good attestation body."""
        quote = tee.quote(report_data(runtime_data(nonce, self.key.public)).ljust(64, b"\0"))
        body: dict[str, object] = {
            "runtime-data": {"nonce": nonce, "tee-pubkey": self.key.public.jwk()},
            "tee-evidence": {
                "primary_evidence": {"quote": base64.b64encode(quote).decode()},
                "additional_evidence": "",
            },
        }
        return body | ({"init-data": {"format": "toml", "body": init_data}} if init_data is not None else {})

    def attest(self, tee: Enclave, init_data: str | None = None) -> tuple[Answer, str]:
        """A whole handshake: the reply and the session."""
        nonce, session = self.challenge()
        body = json.dumps(self.evidence(tee, nonce, init_data)).encode()
        return self.send("POST", "attest", body, session=session), session


def variant(answer: Answer) -> str:
    """The last part of an error's type."""
    return json.loads(answer.body)["type"].rpartition("/")[2]


def detail(answer: Answer) -> str:
    return json.loads(answer.body)["detail"]


def claims_of(token: str) -> dict[str, Any]:
    """A token's claims, unverified."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
