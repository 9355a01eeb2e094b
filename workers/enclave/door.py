"""The agent's side of its pod's doors: the only way out of the pod's network, through the untrusted host.

Zone: enclave. May import: `orchestrator.{bus,faults}`, `schemas`, `workers.enclave.event_key`, the standard library.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.bus import Credentials
from orchestrator.faults import Code, Permanent, Temporary
from schemas import strict_json
from schemas.places import BUS_DOOR, HTTP_DOOR, POD_FILE
from workers.enclave.event_key import BusKey

BUS_URL: Final = f"tls://127.0.0.1:{BUS_DOOR}"
HTTP: Final = ("127.0.0.1", HTTP_DOOR)
PROXY_URL: Final = f"http://127.0.0.1:{HTTP_DOOR}"
MAX_ANSWER: Final = 1 << 20
PATIENCE: Final = 10


@dataclass(frozen=True, slots=True)
class Pod:
    """Who the host says we are. A wrong id makes facts that nobody accepts; a wrong bus sees only signed facts."""

    id: str
    node: str
    bus_ca: str


def read_pod(path: Path = Path(POD_FILE)) -> Pod:
    """Raises Permanent(AGENT_NOT_STARTED)."""
    try:
        document = strict_json.parse_object(path.read_bytes())
        return Pod(*(strict_json.text(document, name) for name in ("pod", "node", "bus_ca")))
    except (OSError, strict_json.Malformed) as error:
        raise Permanent(
            Code.AGENT_NOT_STARTED,
            "the host did not say which pod this agent is for",
            expected=f"{path} with pod, node and bus_ca",
            got=type(error).__name__,
            advice="agent bundle and host worker are of different versions",
        ) from error


def enroll(pod: Pod, key: BusKey) -> Credentials:
    """Ask for the bus user of this pod's agent: answered for one key only, however often it asks.

    Raises Temporary(BUS_AWAY), Permanent(INPUT).
    """
    answer = _ask("POST", "/enroll", {"nkey": key.nkey})
    jwt = answer.get("jwt")
    if not isinstance(jwt, str):
        raise _refused("/enroll", answer)
    return Credentials(BUS_URL, pod.bus_ca, jwt=jwt, sign=key.answer, inbox=f"_INBOX_{pod.id}", reader=f"pod-{pod.id}")


def proposed_process(container: str) -> dict[str, Any]:
    """The OCI configuration that the host wants to run: a proposal, to be judged. Raises as `enroll`."""
    return _ask("GET", f"/containers/{container}/process", None)


def _ask(method: str, path: str, body: dict[str, str] | None) -> dict[str, Any]:
    connection = http.client.HTTPConnection(*HTTP, timeout=PATIENCE)
    try:
        connection.request(method, path, json.dumps(body) if body else None)
        response = connection.getresponse()
        raw = response.read(MAX_ANSWER + 1)
        if response.length != 0 and len(raw) <= MAX_ANSWER:
            raise http.client.IncompleteRead(b"")  # the host died in the middle of it
    except (OSError, http.client.HTTPException) as error:
        raise _away(method, path, type(error).__name__) from error
    finally:
        connection.close()
    try:
        document = strict_json.parse_object(raw) if len(raw) <= MAX_ANSWER else {}
    except strict_json.Malformed:
        document = {}
    if response.status == http.client.SERVICE_UNAVAILABLE:
        raise _away(method, path, str(document.get("message"))[:500])
    if response.status != http.client.OK or not document:
        raise _refused(path, document)
    return document


def _away(method: str, path: str, got: str) -> Temporary:
    return Temporary(
        Code.BUS_AWAY,
        "the pod's door does not answer",
        expected=f"{method} {path} answered within {PATIENCE} s",
        got=got,
        advice="see whether the node's host worker runs, and what it waits for",
    )


def _refused(path: str, document: dict[str, Any]) -> Permanent:
    return Permanent(
        Code.INPUT,
        f"the pod's door refused {path}",
        expected="an answer in JSON",
        got=str(document.get("message", "none"))[:500],
        advice="see the host worker's log",
    )
