"""What is wanted: the spec of an EnclaveRuntime as a value.

The API server has checked it against `crd.yaml`; this checks again what deciding relies on, because old API servers do
not evaluate CEL, and a CRD can be edited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from deploy.operator import names
from orchestrator.faults import Code, Permanent

_REFERENCE: Final = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]{0,254}@sha256:[0-9a-f]{64}", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")


class Mode(StrEnum):
    """What runs the enclaves. `sim` is no protection from the node's root."""

    SIM = "sim"
    SGX = "sgx"


class Distribution(StrEnum):
    """Whose containerd a node runs: where its configuration lies, and which service restarts it."""

    CONTAINERD = "containerd"
    K3S = "k3s"
    RKE2 = "rke2"
    K0S = "k0s"
    MICROK8S = "microk8s"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One of a label selector's expressions."""

    key: str
    operator: str
    values: frozenset[str]

    def met_by(self, labels: Mapping[str, str]) -> bool:
        """As Kubernetes decides it: NotIn is met by a node without the label, too."""
        present = self.key in labels
        if self.operator == "Exists":
            return present
        if self.operator == "DoesNotExist":
            return not present
        return (present and labels[self.key] in self.values) is (self.operator == "In")


@dataclass(frozen=True, slots=True)
class Selector:
    """A label selector (meta/v1): all of its parts must be met. An empty one selects every node."""

    requirements: tuple[Requirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels is meant."""
        return all(requirement.met_by(labels) for requirement in self.requirements)


@dataclass(frozen=True, slots=True)
class Verification:
    """A pod that must succeed through the runtime on a node before the node serves."""

    image: str
    command: tuple[str, ...]
    seconds: int


@dataclass(frozen=True, slots=True)
class Desired:
    """An EnclaveRuntime's spec. `payload` is empty only where a spec cannot be read and the resource is going.

    `attempt` is counted up by a person to try again what nodes refused.
    """

    name: str
    generation: int
    payload: str
    deleting: bool = False
    mode: Mode = Mode.SIM
    distribution: Distribution = Distribution.CONTAINERD
    selector: Selector = field(default_factory=Selector)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    pull_secrets: tuple[str, ...] = ()
    runtime_class: str = names.RUNTIME_CLASS
    overhead: Mapping[str, str] = field(default_factory=dict)
    batch_size: int = 1
    drain: bool = False
    attempt: int = 1
    canary: Selector | None = None
    verification: Verification | None = None

    @property
    def key(self) -> str:
        """What a node refuses, once it failed there: this payload, in this attempt."""
        return f"{names.digest_of(self.payload)}#{self.attempt}"


def parse_desired(document: Mapping[str, Any]) -> Desired:
    """From the resource. Raises Permanent(INPUT)."""
    try:
        metadata, spec = document["metadata"], document["spec"]
        upgrade = spec.get("upgrade") or {}
        runtime_class = spec.get("runtimeClass") or {}
        wanted = Desired(
            name=_matching(_NAME, metadata["name"]),
            generation=int(metadata.get("generation", 0)),
            deleting="deletionTimestamp" in metadata,
            payload=_matching(_REFERENCE, spec["payload"]),
            mode=Mode(spec.get("mode", Mode.SIM)),
            distribution=Distribution(spec.get("distribution", Distribution.CONTAINERD)),
            selector=parse_selector(spec.get("nodeSelector") or {}),
            tolerations=tuple(dict(toleration) for toleration in spec.get("tolerations") or ()),
            pull_secrets=tuple(_text(secret["name"]) for secret in spec.get("imagePullSecrets") or ()),
            runtime_class=_matching(_NAME, runtime_class.get("name", names.RUNTIME_CLASS)),
            overhead={_text(name): str(amount) for name, amount in (runtime_class.get("overhead") or {}).items()},
            batch_size=_count(upgrade.get("batchSize", 1)),
            drain=upgrade.get("drain", False) is True,
            attempt=_count(upgrade.get("attempt", 1)),
            canary=parse_selector(upgrade["canary"]) if upgrade.get("canary") else None,
            verification=_verification(upgrade["verificationPod"]) if upgrade.get("verificationPod") else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Permanent(
            Code.INPUT,
            "the resource's spec cannot be followed",
            expected="an EnclaveRuntime as crd.yaml describes it, payload and images by digest",
            got=f"{type(error).__name__}: {error}",
            advice="kubectl explain enclaveruntime.spec",
        ) from error
    return wanted


def parse_selector(document: Mapping[str, Any]) -> Selector:
    """A label selector, with matchLabels and matchExpressions. Raises KeyError, TypeError, ValueError."""
    if unknown := document.keys() - {"matchLabels", "matchExpressions"}:
        raise ValueError(f"a label selector with {sorted(unknown)}")
    found = [
        Requirement(_text(key), "In", frozenset({_text(value)}))
        for key, value in (document.get("matchLabels") or {}).items()
    ]
    for part in document.get("matchExpressions") or ():
        values: Sequence[Any] = part.get("values") or ()
        if part["operator"] not in _OPERATORS or bool(values) is not (part["operator"] in _OPERATORS[:2]):
            raise ValueError(f"the operator {part['operator']!r} with {len(values)} values")
        found.append(Requirement(_text(part["key"]), part["operator"], frozenset(map(_text, values))))
    return Selector(tuple(found))


def leaving(name: str, generation: int) -> Desired:
    """What is wanted of a resource that is being deleted, when its spec cannot be read: that it goes."""
    return Desired(name=name, generation=generation, payload="", deleting=True)


def _verification(document: Mapping[str, Any]) -> Verification:
    return Verification(
        image=_matching(_REFERENCE, document["image"]),
        command=tuple(map(_text, document.get("command") or ())),
        seconds=_count(document.get("timeoutSeconds", 300)),
    )


def _matching(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{value!r} is not of the form {pattern.pattern}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 1 <= value <= 10_000:
        raise ValueError(f"{value!r} is no count")
    return value
