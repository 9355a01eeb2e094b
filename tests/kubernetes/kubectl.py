"""kubectl: the command itself, of whichever cluster a kubeconfig leads to."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TAKES_AT_MOST: Final = 180.0


class Refused(Exception):
    """kubectl ended with another status than 0: its words."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """`program`, over `config`, in `namespace`."""

    program: str
    config: Path
    namespace: str = "default"

    def __call__(self, *words: str, stdin: str | None = None, seconds: float = TAKES_AT_MOST) -> str:
        """Run it and return what it printed. Raises Refused."""
        done = subprocess.run(
            self.command(*words),
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
            env=self.environment,
        )
        if done.returncode:
            raise Refused(f"kubectl {' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """With its caches beside its configuration, not in somebody's home."""
        return {**os.environ, "KUBECACHEDIR": str(self.config.parent), "HOME": str(self.config.parent)}

    def command(self, *words: str) -> list[str]:
        """The whole command line, for those who run it themselves."""
        return [self.program, f"--kubeconfig={self.config}", f"--namespace={self.namespace}", *words]

    def get(self, *words: str) -> dict[str, Any]:
        """`kubectl get … -o json`."""
        found: dict[str, Any] = json.loads(self("get", *words, "-o", "json"))
        return found

    def apply(self, *objects: dict[str, Any]) -> None:
        """`kubectl apply` of these objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self("apply", "-f", "-", stdin=json.dumps(listed))

    def can(self, verb: str, resource: str, *, as_: str, groups: tuple[str, ...] = ()) -> bool:
        """`kubectl auth can-i`: whether RBAC lets `as_` (such as `system:serviceaccount:NAMESPACE:NAME`) do it."""
        words = ["auth", "can-i", verb, resource, f"--as={as_}", *(f"--as-group={group}" for group in groups)]
        try:
            return self(*words).strip() == "yes"
        except Refused as refused:
            if ": 1: no" in str(refused):
                return False
            raise
