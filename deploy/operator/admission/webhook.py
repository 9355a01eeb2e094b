"""The rules where there is no ValidatingAdmissionPolicy, and the pod's images copied into its prefetch annotation.

The texts of `rules` are compiled once and evaluated; there is no second version of a rule. kopf serves it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import celpy
import kopf
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError

from deploy.operator import names
from deploy.operator.admission.rules import RULES, Rule
from workers.host.shim.bundle import PREFETCH_ANNOTATION

MOST_PREFETCHED: Final = 16
LONGEST_REFERENCE: Final = 512
"""As the shim reads the annotation: beyond that it would refuse the pod."""


def refused(pod: Mapping[str, Any]) -> list[Rule]:
    """The rules that a pod breaks. One that cannot be evaluated is broken: fail closed."""
    activation = {"object": json_to_cel(dict(pod))}
    return [rule for rule, program in _programs() if not _passes(program, activation)]


def confidential(pod: Mapping[str, Any], runtime_classes: frozenset[str]) -> bool:
    """The pod runs through one of these RuntimeClasses, and is not on its way out: what goes is let go."""
    if "deletionTimestamp" in (pod.get("metadata") or {}):
        return False
    return (pod.get("spec") or {}).get("runtimeClassName") in runtime_classes


def prefetched(pod: Mapping[str, Any]) -> str | None:
    """The annotation's value for a pod that has none: its images, each once, as many as may be. None for no change."""
    if PREFETCH_ANNOTATION in ((pod.get("metadata") or {}).get("annotations") or {}):
        return None
    spec = pod.get("spec") or {}
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    images = dict.fromkeys(str(container.get("image") or "") for container in containers)
    named = [image for image in images if 0 < len(image) <= LONGEST_REFERENCE and "," not in image]
    return ",".join(named[:MOST_PREFETCHED]) or None


def register(registry: kopf.OperatorRegistry, runtime_classes: tuple[str, ...] = (names.RUNTIME_CLASS,)) -> None:
    """Serve `/validate` and `/prefetch` of this registry."""
    classes = frozenset(name for own in runtime_classes for name in (own, names.verification_class(own)))

    @kopf.on.validate("", "v1", "pods", id="validate", registry=registry)
    def validate(body: kopf.Body, **_: object) -> None:
        if confidential(body, classes) and (broken := refused(body)):
            raise kopf.AdmissionError("; ".join(rule.message for rule in broken), code=403)

    @kopf.on.mutate("", "v1", "pods", id="prefetch", operation="CREATE", registry=registry)
    def prefetch(body: kopf.Body, patch: kopf.Patch, **_: object) -> None:
        if confidential(body, classes) and (value := prefetched(body)):
            patch.setdefault("metadata", {}).setdefault("annotations", {})[PREFETCH_ANNOTATION] = value


@functools.cache
def _programs() -> tuple[tuple[Rule, celpy.Runner], ...]:
    environment = celpy.Environment()
    return tuple((rule, environment.program(environment.compile(rule.expression))) for rule in RULES)


def _passes(program: celpy.Runner, activation: dict[str, Any]) -> bool:
    try:
        return bool(program.evaluate(activation))
    except CELEvalError:
        return False
