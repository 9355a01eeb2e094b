"""The judges of `enclave-cc replay --policy`: the owner's enforcing code with another policy in it.

Zone: owner. May import: `deploy.kbs`, `workers.enclave.{image,launch_policy}`, `orchestrator`, `schemas`.

Which policy a file is, is told by what is in it:

    Rego with trust_claims     the broker's attestation policy; --reference-values says what it asks for
    Rego with allow            the broker's resource policy
    JSON with `rules`          the owner's launch policy
    any other JSON             the owner's image policy
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.kbs.appraisal import annotated_evidence, appraise
from deploy.kbs.owner import default_policy
from deploy.kbs.policies import Policies, PolicyBroken
from deploy.kbs.quote import Quote
from deploy.kbs.refused import EvidenceRefused
from deploy.kbs.state import PolicyId
from orchestrator.cli.replay import command
from orchestrator.events import Attested, ConfigDelivered, ImageDecrypted
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Container, Launch
from orchestrator.replay.whatif import Judge, Judged, Outcome, outcome
from schemas.strict_json import JsonObject, JsonValue, Malformed, parse_object
from workers.enclave.image.policy import AcceptAnything, ImagePolicy, Requirement, SigstoreSigned, scopes_of
from workers.enclave.image.reference import Reference, parse_reference
from workers.enclave.image.signature import PublicKey
from workers.enclave.kbs import ResourceUri
from workers.enclave.launch_policy.document import LaunchPolicy

AFFIRMING: Final = "affirming"
_RULES: Final = re.compile(r"^(?:default\s+)?(?:trust_claims|allow)\b", re.MULTILINE)
"""What one of the broker's policies begins a line with: else everything would seem to be denied by it."""

_KEY: Final = re.compile(r"kbs:///[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")


def judge_of(policy: Path, reference_values: Path | None) -> Judge:
    """The judge for a policy file. Raises Permanent(INPUT) for one that its own reader refuses."""
    raw = policy.read_bytes()
    try:
        if policy.suffix != ".rego":
            members = parse_object(raw)
            return LaunchJudge(LaunchPolicy.parse(raw)) if "rules" in members else ImageJudge(ImagePolicy.parse(raw))
        values = parse_object(reference_values.read_bytes()) if reference_values else {}
        broker = BrokerPolicies(raw.decode("utf-8"), values)
    except (Malformed, PolicyBroken, UnicodeDecodeError) as error:
        raise Permanent(
            Code.INPUT, f"{policy} is no policy", expected="Rego, or JSON of an owner's policy", got=str(error)
        ) from error
    if b"trust_claims" in raw and reference_values is None:
        raise Permanent(
            Code.INPUT,
            "an attestation policy asks for reference values",
            expected="--reference-values FILE: the broker's reference-values.json",
            got="none",
        )
    return AttestationJudge(broker) if b"trust_claims" in raw else ResourceJudge(broker)


class BrokerPolicies:
    """The broker's policies, one of them replaced, evaluated as the broker does, from a folder that lives as long."""

    def __init__(self, rego: str, reference_values: JsonObject) -> None:
        """Raises PolicyBroken."""
        if not _RULES.search(rego):
            raise PolicyBroken("Rego in which neither trust_claims nor allow is defined")
        given = PolicyId.ATTESTATION if "trust_claims" in rego else PolicyId.RESOURCE
        self._folder = tempfile.TemporaryDirectory(prefix="enclave-cc-whatif-")
        folder = Path(self._folder.name)
        for policy in PolicyId:
            text = rego.encode() if policy is given else default_policy(policy)
            (folder / f"{policy}.rego").write_bytes(text)
        self.policies = Policies(folder, reference_values.get)


# --- the broker's policies --------------------------------------------------------------------------------------------


class AttestationJudge:
    """The attestation policy, before the quote that the launch's event key stands on."""

    def __init__(self, broker: BrokerPolicies) -> None:
        self._broker = broker

    def judge(self, launch: Launch) -> Iterator[Judged]:
        """See `Judge`."""
        body, index = launch.attested, _index_of_attested(launch)
        if body is None:
            reason = "no quote was recorded: the broker had not affirmed one"
            yield Judged("attestation", "", launch.pod, 0, Outcome.UNKNOWN, "not attested", reason)
            return
        then = f"affirmed: TCB {body.tcb_status}{', simulated' if body.simulated else ''}"
        try:
            status = appraise(self._broker.policies, evidence_of(body))["ear.status"]
        except (PolicyBroken, EvidenceRefused) as error:
            yield Judged("attestation", "", body.measurement, index, Outcome.UNKNOWN, then, str(error))
            return
        result = outcome(then=True, now=status == AFFIRMING)
        yield Judged("attestation", "", body.measurement, index, result, then, str(status))


class ResourceJudge:
    """The resource policy, before an affirmed token of this enclave and the keys that the image asked for."""

    def __init__(self, broker: BrokerPolicies) -> None:
        self._broker = broker

    def judge(self, launch: Launch) -> Iterator[Judged]:
        """See `Judge`."""
        body = launch.attested
        for container in launch.containers.values():
            for key, index, given in keys_of(container):
                then = "given" if given else "denied"
                if body is None:
                    yield Judged("key", container.id, key, index, Outcome.UNKNOWN, then, "no quote was recorded")
                    continue
                try:
                    now = self._allows(body, ResourceUri.parse(key))
                except (PolicyBroken, EvidenceRefused, Permanent) as error:
                    yield Judged("key", container.id, key, index, Outcome.UNKNOWN, then, str(error))
                else:
                    result = outcome(then=given, now=now)
                    yield Judged("key", container.id, key, index, result, then, "given" if now else "denied")

    def _allows(self, body: Attested, key: ResourceUri) -> bool:
        evidence = evidence_of(body)
        cpu: JsonObject = {"ear.status": AFFIRMING, "ear.veraison.annotated-evidence": evidence}
        path: list[JsonValue] = [key.repository, key.type, key.tag]
        return self._broker.policies.allows({"submods": {"cpu0": cpu}}, {"plugin": "resource", "resource-path": path})


def evidence_of(body: Attested) -> JsonObject:
    """What the policies see, as far as the history holds it: the quote's own claims, and what the broker found then.

    Raises EvidenceRefused for bytes that are no quote.
    """
    sgx = Quote.parse(body.quote).claims()
    # Collateral was in date when the broker accepted the quote; what it said beyond its verdict was not recorded.
    found: JsonObject = {
        "tcb_status": body.tcb_status,
        "simulated": body.simulated,
        "collateral_expiration_status": "0",
    }
    return annotated_evidence(sgx | found, {}, None)


def keys_of(container: Container) -> Iterator[tuple[str, int, bool]]:
    """(key, fact, whether it was given): the keys of a decrypted image, or the one that was denied."""
    failure = container.progress.failure
    if container.decrypted is not None:
        index = container.progress.passed[0].index if container.progress.passed else 0
        for key in container.decrypted.key_ids:
            yield key, index, True
    elif failure is not None and failure.diagnosis.code is Code.KEY_DENIED:
        named = _KEY.search(failure.diagnosis.message)
        if named:
            yield named[0], failure.index, False


def _index_of_attested(launch: Launch) -> int:
    return launch.progress.passed[2].index if len(launch.progress.passed) > 2 else 0


# --- the owner's policies ---------------------------------------------------------------------------------------------


class ImageJudge:
    """The image policy, before the image's name and the key under which its signature verified then."""

    def __init__(self, policy: ImagePolicy) -> None:
        self._policy = policy

    def judge(self, launch: Launch) -> Iterator[Judged]:
        """See `Judge`."""
        for container in launch.containers.values():
            body = container.decrypted
            if body is None:
                asked = container.requested.image
                reason = "the image's digest and signatures were not recorded: it was not decrypted"
                yield Judged("image", container.id, asked, 0, Outcome.UNKNOWN, "not decrypted", reason)
                continue
            index = container.progress.passed[0].index if container.progress.passed else 0
            result, now = self._judged(body)
            yield Judged("image", container.id, body.reference, index, result, body.verdict, now)

    def _judged(self, body: ImageDecrypted) -> tuple[Outcome, str]:
        try:
            reference = parse_reference(body.reference)
            scope, requirements = _rule(self._policy, reference)
            words = [_holds(requirement, reference, body.verdict) for requirement in requirements]
        except Permanent as fault:
            return Outcome.DENIED, str(fault)
        unknown = [word for word in words if word]
        if unknown:
            return Outcome.UNKNOWN, f"{scope or 'default'}: {unknown[0]}"
        return Outcome.SAME, f"admitted by {scope or 'default'}"


def _rule(policy: ImagePolicy, reference: Reference) -> tuple[str, tuple[Requirement, ...]]:
    scope = next((scope for scope in scopes_of(reference) if scope in policy.scopes), None)
    return ("", policy.default) if scope is None else (scope, policy.scopes[scope])


def _holds(requirement: Requirement, reference: Reference, verdict: str) -> str:
    """Empty when it is met, or why the history cannot tell. Raises Permanent(SIGNATURE_*) when it is not met."""
    if isinstance(requirement, AcceptAnything):
        return ""
    if not isinstance(requirement, SigstoreSigned):
        raise Permanent(
            Code.SIGNATURE_POLICY, f"the policy refuses {reference}", expected="a rule that admits it",
            got=requirement.kind,
        )  # fmt: skip
    if any(key.startswith("kbs:///") for key in requirement.keys):
        return "the rule's key is at the key broker, and not in the history"
    named = {PublicKey.parse(key.encode()).fingerprint for key in requirement.keys}
    if not any(fingerprint in verdict for fingerprint in named):
        raise Permanent(
            Code.SIGNATURE_WRONG, f"{reference} was signed by another key", expected=", ".join(sorted(named)),
            got=verdict,
        )  # fmt: skip
    return ""


class LaunchJudge:
    """The launch policy, before the image and the app enclave's measurement; the process is only a digest here."""

    def __init__(self, policy: LaunchPolicy) -> None:
        self._policy = policy

    def judge(self, launch: Launch) -> Iterator[Judged]:
        """See `Judge`."""
        for container in launch.containers.values():
            body, image = container.delivered, container.decrypted
            if body is None or image is None:
                reason = "nothing was judged: no configuration was delivered"
                asked = container.requested.image
                yield Judged("process", container.id, asked, 0, Outcome.UNKNOWN, "not delivered", reason)
                continue
            passed = container.progress.passed
            result, now = self._judged(body, image)
            yield Judged("process", container.id, image.reference, passed[2].index, result, body.verdict, now)

    def _judged(self, body: ConfigDelivered, image: ImageDecrypted) -> tuple[Outcome, str]:
        if body.measurement not in self._policy.boot_measurements:
            return Outcome.DENIED, f"boot_measurements does not list {body.measurement}"
        pinned = parse_reference(image.reference).pinned(image.manifest_digest)
        if not self._policy.rules_for(pinned):
            return Outcome.DENIED, f"no rule is for {pinned}"
        return Outcome.UNKNOWN, "a rule is for this image; of the process the history holds the digest only"


replay = command(judge_of)
