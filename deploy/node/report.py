"""What a run says as its last act: one JSON document, small enough for a pod's termination message.

Zone: host. May import: `orchestrator.faults`, the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.faults import Diagnosis

MAX_BYTES: Final = 4096
"""What a kubelet keeps of a termination message."""
_TEXT: Final = 600
"""Characters of each of a fault's texts: four of them, escaped, and the rest of the document fit."""


@dataclass(frozen=True, slots=True)
class Report:
    """phase: installed, upgraded, rolled-back, uninstalled or failed. Digests as `sha256:...`."""

    phase: str
    payload: str | None = None
    previous: str | None = None
    measurements: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    containerd: str = ""
    configuration_changed: bool = False
    restarted: bool = False
    error: Diagnosis | None = None

    def text(self) -> str:
        """One line of JSON, at most `MAX_BYTES` of UTF-8."""
        for limit in (_TEXT, _TEXT // 4, 0):
            line = json.dumps(self._document(limit))
            if len(line.encode()) <= MAX_BYTES:
                return line
        raise ValueError("a report of more measurements than there are bundles")

    def _document(self, limit: int) -> dict[str, object]:
        error = self.error
        return {
            "phase": self.phase,
            "payloadDigest": self.payload,
            "previousDigest": self.previous,
            "measurements": self.measurements,
            "containerdVersion": self.containerd,
            "configurationChanged": self.configuration_changed,
            "restarted": self.restarted,
            "error": error
            and {
                "code": str(error.code),
                "message": error.message[:limit],
                "expected": error.expected[:limit],
                "got": error.got[:limit],
                "advice": error.advice[:limit],
            },
        }
