"""From claims about an enclave to a judgement of it: one submodule of an EAR.

Source: Trustee `attestation-service/src/ear_token/broker.rs` (transform_claims, issue); draft-ietf-rats-ear;
draft-ietf-rats-ar4si section 2.3 for what the numbers mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deploy.kbs.policies import PolicyBroken
from schemas.strict_json import JsonObject

if TYPE_CHECKING:
    from deploy.kbs.init_data import InitData
    from deploy.kbs.policies import Policies

_TRUST_CLAIMS: Final = (
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
)
_STATUSES: Final = ("none", "affirming", "warning", "contraindicated")
_POLICY_NAME: Final = "default"


def annotated_evidence(sgx: JsonObject, runtime: JsonObject, init_data: InitData | None) -> JsonObject:
    """What the policies see. `init_data` is CONFIGID even when nothing was presented: the hardware vouches for it."""
    body = sgx["body"]
    quoted = body if isinstance(body, dict) else {}
    return {
        "sgx": sgx,
        "report_data": quoted["report_data"],
        "runtime_data_claims": runtime,
        "init_data": quoted["config_id"],
        "init_data_claims": init_data.claims if init_data else None,
    }


def appraise(policies: Policies, evidence: JsonObject) -> JsonObject:
    """The submodule `cpu0`; `PolicyBroken` when the policy's answer is no trust vector."""
    judged = policies.trust_claims(evidence)
    vector: JsonObject = dict.fromkeys(_TRUST_CLAIMS, 0)
    if not judged or judged.keys() - vector.keys():
        raise PolicyBroken("trust_claims holds none of AR4SI's claims, or others")
    for name, value in judged.items():
        if not isinstance(value, int) or isinstance(value, bool) or not -128 <= value <= 127:
            raise PolicyBroken(f"trust claim {name} is not a number from -128 to 127")
        vector[name] = value
    worst = max(_tier(value) for value in judged.values() if isinstance(value, int))
    return {
        "ear.status": _STATUSES[worst],
        "ear.trustworthiness-vector": vector,
        "ear.appraisal-policy-id": _POLICY_NAME,
        "ear.veraison.annotated-evidence": evidence,
    }


def _tier(value: int) -> int:
    """Index into `_STATUSES`: -1 to 1 none; to -32 or 31 affirming; to -96 or 95 warning; the rest contraindicated."""
    # -1, -32 and -96 stand in the tier of 0, 31 and 95.
    distance = value if value >= 0 else -value - 1
    return sum(distance > limit for limit in (0 if value < 0 else 1, 31, 95))
