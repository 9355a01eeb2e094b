"""The agent's side of its pod's doors: the only way out of the pod's network, through the untrusted host.

Zone: enclave. May import: `orchestrator.{bus,faults}`, `workers.enclave.event_key`, the standard library.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.bus import Credentials
from orchestrator.faults import Code, Permanent, Temporary
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
        document = json.loads(path.read_text())
        return Pod(str(document["pod"]), str(document["node"]), str(document["bus_ca"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
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
    except (OSError, http.client.HTTPException) as error:
        raise Temporary(
            Code.BUS_AWAY,
            "the pod's door does not answer",
            expected=f"{method} {path} answered within {PATIENCE} s",
            got=type(error).__name__,
            advice="see whether the node's host worker runs",
        ) from error
    finally:
        connection.close()
    try:
        document = json.loads(raw) if len(raw) <= MAX_ANSWER else None
    except ValueError:
        document = None
    if response.status != http.client.OK or not isinstance(document, dict):
        raise _refused(path, document)
    return document


def _refused(path: str, document: object) -> Permanent:
    message = document.get("message") if isinstance(document, dict) else None
    return Permanent(
        Code.INPUT,
        f"the pod's door refused {path}",
        expected="an answer in JSON",
        got=str(message)[:500],
        advice="see the host worker's log",
    )
