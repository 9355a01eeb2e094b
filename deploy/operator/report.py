"""What a node's Job says as its last act: the JSON document in its pod's termination message.

    {"phase":"installed|upgraded|rolled-back|uninstalled|failed","payloadDigest":"sha256:…","previousDigest":…|null,
     "measurements":{"sim":{"agent":"hex","boot":"hex"}},"containerdVersion":"…","configurationChanged":bool,
     "restarted":bool,"error":null|{"code":"E-…","message","expected","got","advice"}}

It is a node's word: it is shown to people and decides how a rollout goes on; no secret depends on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from deploy.operator.record import MAX_TEXT, Problem
from orchestrator.faults import Code, Permanent

MAX_REPORT: Final = 4096
"""Bytes: what a kubelet keeps of a termination message."""
_PHASES: Final = frozenset({"installed", "upgraded", "rolled-back", "uninstalled", "failed"})
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Report:
    """The part of the document that decides or is shown. `measurement` is the agent's, of the mode in use."""

    phase: str
    digest: str
    measurement: str = ""
    problem: Problem | None = None


def parse_report(text: str, mode: str) -> Report:
    """A report from a termination message. Raises Permanent(INPUT) for anything else: output, half a document."""
    try:
        document = json.loads(text) if len(text.encode()) <= MAX_REPORT else None
        if not isinstance(document, dict) or document.get("phase") not in _PHASES:
            raise ValueError("no report of a known phase")  # noqa: TRY301 - told below
        digest = document.get("payloadDigest") or ""
        if not isinstance(digest, str) or (digest and not _DIGEST.fullmatch(digest)):
            raise ValueError("a payloadDigest that is none")  # noqa: TRY301 - told below
        measurement = ((document.get("measurements") or {}).get(mode) or {}).get("agent", "")
        if not isinstance(measurement, str) or (measurement and not _HEX.fullmatch(measurement)):
            raise ValueError("a measurement that is none")  # noqa: TRY301 - told below
        error = document.get("error")
        return Report(document["phase"], digest, measurement, None if error is None else _problem(error))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Permanent(
            Code.INPUT,
            "the node's Job left no report that can be read",
            expected=f"its JSON document in the termination message, at most {MAX_REPORT} bytes",
            got=f"{type(error).__name__}: {error}"[:MAX_TEXT],
            advice="kubectl logs of the Job's pod",
        ) from error


def _problem(error: Mapping[str, Any]) -> Problem:
    def text(name: str) -> str:
        return str(error.get(name) or "")[:MAX_TEXT]

    return Problem(text("code"), text("message"), text("expected"), text("got"), text("advice"))
