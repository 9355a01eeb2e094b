"""The upstream operator's CcRuntime (confidentialcontainers.org/v1beta1) as an EnclaveRuntime, as far as it maps. Pure.

| CcRuntime | EnclaveRuntime |
|---|---|
| spec.ccNodeSelector | nodeSelector (upstream followed matchLabels alone) |
| spec.ccTolerations | tolerations |
| spec.config.payloadImage | payload, if it is by digest; a tag is refused |
| spec.config.imagePullSecret | imagePullSecrets |
| spec.config.runtimeClasses[0].name | runtimeClass.name |

Everything else has no counterpart, and is told: commands, volumes and environment of the installer would run other
people's words as root on every node, and what went into the measured root from there is the owner's policy here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from deploy.operator import names
from deploy.operator.desired import parse_desired
from orchestrator.faults import Code, Permanent

_SPEC: Final = frozenset({"ccNodeSelector", "ccTolerations", "runtimeName", "config"})
_CONFIG: Final = frozenset({"payloadImage", "imagePullSecret", "runtimeClasses"})


def converted(document: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """An EnclaveRuntime, and the fields that were left out. Raises Permanent(INPUT) for what cannot be one."""
    spec = document.get("spec") or {}
    config = spec.get("config") or {}
    if document.get("kind") != "CcRuntime" or spec.get("runtimeName") != "enclave-cc":
        raise Permanent(
            Code.INPUT,
            "only a CcRuntime of enclave-cc can be converted",
            expected="kind CcRuntime, spec.runtimeName enclave-cc",
            got=f"{document.get('kind')}, {spec.get('runtimeName')}",
        )
    wanted: dict[str, Any] = {"payload": config.get("payloadImage")}
    if spec.get("ccNodeSelector"):
        wanted["nodeSelector"] = dict(spec["ccNodeSelector"])
    if spec.get("ccTolerations"):
        wanted["tolerations"] = [dict(toleration) for toleration in spec["ccTolerations"]]
    if secret := (config.get("imagePullSecret") or {}).get("name"):
        wanted["imagePullSecrets"] = [{"name": secret}]
    classes = config.get("runtimeClasses") or ()
    if classes and classes[0].get("name"):
        wanted["runtimeClass"] = {"name": classes[0]["name"]}
    made = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": document["metadata"]["name"]},
        "spec": wanted,
    }
    parse_desired(made)
    left = [f"spec.{name}" for name in sorted(spec.keys() - _SPEC)]
    left += [f"spec.config.{name}" for name in sorted(config.keys() - _CONFIG)]
    left += [f"spec.config.runtimeClasses[{index}]" for index in range(1, len(classes))]
    return made, tuple(left)
