"""The rules of confidential pods: each one expression of CEL over `object`, true where the pod may pass.

Only what every CEL has is used: `has`, `all`, `exists`, strings. The annotations that are known are those that the
shim reads. Ephemeral containers come through an update of the pod's subresource, where the whole pod is the object.

Volumes: config maps, secrets, projected, downward API, emptyDir and claims are fine, as far as the owner's policy
admits what is mounted; a host's path is the host's hand inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workers.host.shim.bundle import HOLD_ANNOTATION, INIT_DATA_ANNOTATION, OWN, PREFETCH_ANNOTATION

KNOWN_ANNOTATIONS: Final = (INIT_DATA_ANNOTATION, HOLD_ANNOTATION, PREFETCH_ANNOTATION)

_LISTS: Final = ("containers", "initContainers")


@dataclass(frozen=True, slots=True)
class Rule:
    """`expression` is CEL; `message` is what a person reads where it is false."""

    name: str
    expression: str
    message: str


def _each(test: str) -> str:
    """`test` of `c`, for every container of the pod."""
    spec = "object.spec"
    return " && ".join(f"(!has({spec}.{name}) || {spec}.{name}.all(c, {test}))" for name in _LISTS)


def _off(field: str) -> str:
    return f"!has(object.spec.{field}) || !object.spec.{field}"


_KNOWN: Final = ", ".join(f"'{name}'" for name in KNOWN_ANNOTATIONS)
_SECURITY: Final = "!has(c.securityContext) || "

RULES: Final = (
    Rule("host-network", _off("hostNetwork"), "hostNetwork: the agent serves its pod in the pod's own network"),
    Rule("host-pid", _off("hostPID"), "hostPID: a confidential workload sees its own processes alone"),
    Rule("host-ipc", _off("hostIPC"), "hostIPC: memory shared with the host is the host's"),
    Rule(
        "host-path",
        "!has(object.spec.volumes) || object.spec.volumes.all(v, !has(v.hostPath))",
        "hostPath: the host can change it under the workload; use a claim, which is encrypted",
    ),
    Rule(
        "privileged",
        _each(f"({_SECURITY}!has(c.securityContext.privileged) || !c.securityContext.privileged)"),
        "privileged: the host's devices inside an enclave are the host's hand inside",
    ),
    Rule(
        "capabilities",
        _each(
            f"({_SECURITY}!has(c.securityContext.capabilities) || !has(c.securityContext.capabilities.add)"
            " || size(c.securityContext.capabilities.add) == 0)"
        ),
        "capabilities.add: the launch policy grants capabilities, not the pod",
    ),
    Rule(
        "ephemeral-containers",
        "!has(object.spec.ephemeralContainers) || size(object.spec.ephemeralContainers) == 0",
        "ephemeral containers: nobody attested them; kubectl exec runs what the policy lists",
    ),
    Rule(
        "image-by-digest",
        _each("has(c.image) && c.image.matches('@sha256:[0-9a-f]{64}$')"),
        "image: by digest (name@sha256:...); a tag may mean another image tomorrow",
    ),
    Rule(
        "known-annotations",
        f"!has(object.metadata.annotations) || object.metadata.annotations.all(k, !k.startsWith('{OWN}')"
        f" || k in [{_KNOWN}])",
        f"annotations: known are {', '.join(KNOWN_ANNOTATIONS)}",
    ),
)
