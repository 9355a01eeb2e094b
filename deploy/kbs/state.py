"""What the broker's state directory holds, by name."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

POLICIES: Final = "policies"
REFERENCE_VALUES: Final = "reference-values.json"
RESOURCES: Final = "resources"


class PolicyId(StrEnum):
    """The policies there are, by the names that Trustee's admin interface gives them; `<id>.rego` in `POLICIES`."""

    RESOURCE = "resource-policy"
    ATTESTATION = "default_cpu"
