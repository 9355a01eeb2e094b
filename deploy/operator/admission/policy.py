"""The rules as a ValidatingAdmissionPolicy with its binding (admissionregistration.k8s.io/v1, KEP-3488). Pure."""

from __future__ import annotations

from typing import Any, Final

from deploy.operator import names
from deploy.operator.admission.rules import RULES

NAME: Final = "pods.enclave-cc.dev"


def policy(runtime_classes: tuple[str, ...] = (names.RUNTIME_CLASS,)) -> list[dict[str, Any]]:
    """Policy and binding, for pods of these RuntimeClasses. What cannot be evaluated is refused."""
    classes = ", ".join(f"'{name}'" for own in runtime_classes for name in (own, names.verification_class(own)))
    confidential = f"has(object.spec.runtimeClassName) && object.spec.runtimeClassName in [{classes}]"
    # A pod that goes is let go: its finalizers are removed by updates.
    stays = "!has(object.metadata.deletionTimestamp)"
    api, group = "admissionregistration.k8s.io/v1", {"apiGroups": [""], "apiVersions": ["v1"]}
    return [
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": NAME},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "resourceRules": [
                        {**group, "operations": ["CREATE", "UPDATE"], "resources": ["pods"]},
                        {**group, "operations": ["UPDATE"], "resources": ["pods/ephemeralcontainers"]},
                    ]
                },
                "matchConditions": [
                    {"name": "confidential", "expression": confidential},
                    {"name": "stays", "expression": stays},
                ],
                "validations": [
                    {"expression": rule.expression, "message": rule.message, "reason": "Forbidden"} for rule in RULES
                ],
            },
        },
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": NAME},
            "spec": {"policyName": NAME, "validationActions": ["Deny"]},
        },
    ]
