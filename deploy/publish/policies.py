"""The owner's policy documents: a folder of two files, which is where they are edited, and the broker's two resources.

    image-policy.json     kbs:///default/security-policy/image     which images, under whose signature
    launch-policy.json    kbs:///default/launch-policy/default     what their processes may be

The files are the truth: a broker gives nothing back to an administrator. Admitting an image adds what is missing and
changes nothing that a person wrote. Format: docs/formats/policies.md. A document is parsed by the enclave's own parser
before it is written or sent, so that no enclave meets one it refuses.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from deploy.kbs import durable
from orchestrator.faults import Code, Permanent
from schemas.recipients import Recipient
from schemas.strict_json import JsonObject, JsonValue, Malformed, parse_object
from workers.enclave.image.policy import ImagePolicy
from workers.enclave.kbs import ResourceUri
from workers.enclave.launch_policy.document import LaunchPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

IMAGE_POLICY: Final = ResourceUri("default", "security-policy", "image")
LAUNCH_POLICY: Final = ResourceUri("default", "launch-policy", "default")

_NEW_IMAGE_POLICY: Final[JsonObject] = {"default": [{"type": "reject"}], "transports": {"docker": {}}}
_NEW_LAUNCH_POLICY: Final[JsonObject] = {"version": 1, "boot_measurements": [], "rules": [], "secrets": []}
_NETWORK_FILES: Final = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""A new rule admits these three of Kubernetes' mounts: without them a container finds no service by name."""


class Broker(Protocol):
    """What is asked of a key broker: `deploy.kbs.admin_client.AdminClient`."""

    def put_resource(self, uri: ResourceUri, content: bytes, /) -> None:
        """Make or replace a resource."""
        ...

    def delete_resource(self, uri: ResourceUri, /) -> None:
        """Remove a resource."""
        ...


@dataclass(frozen=True, slots=True)
class PolicyFolder:
    """The folder with both documents; an absent one is as good as new."""

    path: Path

    @property
    def image_policy(self) -> Path:
        """containers-policy.json with the member `enclave-cc`."""
        return self.path / "image-policy.json"

    @property
    def launch_policy(self) -> Path:
        """The launch policy."""
        return self.path / "launch-policy.json"

    def check(self) -> tuple[ImagePolicy, LaunchPolicy]:
        """Parse both as the enclave will.

        Raises:
            Permanent: SIGNATURE_POLICY, CONFIG_POLICY, IMAGE_REFERENCE, naming the place.
        """
        return (
            ImagePolicy.parse(_render(_load(self.image_policy, _NEW_IMAGE_POLICY))),
            LaunchPolicy.parse(_render(_load(self.launch_policy, _NEW_LAUNCH_POLICY))),
        )

    def admit(self, repository: str, public_pem: bytes, *, unencrypted: bool = False) -> None:
        """Admit images of `repository` that this key signed, and their own processes.

        Raises:
            Permanent: INPUT, when the policy has another rule for the repository; as `check`.
        """
        document = _load(self.image_policy, _NEW_IMAGE_POLICY)
        rules = _object(_object(document, "transports"), "docker")
        rule: list[JsonValue] = [
            {
                "type": "sigstoreSigned",
                "keyData": base64.b64encode(public_pem).decode(),
                "signedIdentity": {"type": "matchRepository"},
            }
        ]
        if rules.setdefault(repository, rule) != rule:
            raise Permanent(
                Code.INPUT,
                f"{self.image_policy} has another rule for {repository}",
                expected="the rule for this signing key, or none",
                got="another key, or more conditions",
                advice="change the rule by hand: several keys stand in keyDatas",
            )
        if unencrypted:
            _add(_object(document, "enclave-cc"), "unencrypted", repository)
        raw = _render(document)
        ImagePolicy.parse(raw)
        self._write(self.image_policy, raw)
        self._admit_process(repository)

    def seal_output(self, repository: str, recipients: Sequence[Recipient]) -> None:
        """Have the output of every rule for `repository` sealed for these too.

        Raises:
            Permanent: INPUT, when there is no such rule; CONFIG_POLICY, as the enclave would.
        """
        document = _load(self.launch_policy, _NEW_LAUNCH_POLICY)
        rules = [rule for rule in _array(document, "rules") if isinstance(rule, dict)]
        meant = [rule for rule in rules if rule.get("image") == repository]
        if not meant:
            raise Permanent(
                Code.INPUT,
                f"{self.launch_policy} has no rule for {repository}",
                expected="the repository of a rule",
                got=repository,
                advice="admit its images first: `enclave-cc publish` or `enclave-cc policy admit`",
            )
        for rule in meant:
            sealed_for = _array(_object(rule, "output"), "sealed_for")
            known = [Recipient.parse(key) for key in sealed_for if isinstance(key, dict)]
            sealed_for.extend(dict(each.jwk()) for each in recipients if each not in known)
        raw = _render(document)
        LaunchPolicy.parse(raw)
        self._write(self.launch_policy, raw)

    def admit_boot(self, measurements: Iterable[str]) -> None:
        """Admit boot inits by their measurements, 64 hex digits each.

        Raises:
            Permanent: CONFIG_POLICY, when one is none.
        """
        document = _load(self.launch_policy, _NEW_LAUNCH_POLICY)
        for measurement in measurements:
            _add(document, "boot_measurements", measurement)
        raw = _render(document)
        LaunchPolicy.parse(raw)
        self._write(self.launch_policy, raw)

    def put(self, broker: Broker) -> None:
        """Parse both and store them at the broker: every launch from now on is judged by them.

        Raises:
            Permanent: as `check`; what the broker refuses.
            Temporary: KEY_KBS_AWAY.
        """
        self.check()
        broker.put_resource(IMAGE_POLICY, _render(_load(self.image_policy, _NEW_IMAGE_POLICY)))
        broker.put_resource(LAUNCH_POLICY, _render(_load(self.launch_policy, _NEW_LAUNCH_POLICY)))

    def _admit_process(self, repository: str) -> None:
        document = _load(self.launch_policy, _NEW_LAUNCH_POLICY)
        rules = _array(document, "rules")
        if not any(isinstance(rule, dict) and rule.get("image") == repository for rule in rules):
            mounts: list[JsonValue] = list(_NETWORK_FILES)
            rules.append({"image": repository, "args": {"from_image": True}, "mounts": mounts})
        raw = _render(document)
        LaunchPolicy.parse(raw)
        self._write(self.launch_policy, raw)

    def _write(self, path: Path, raw: bytes) -> None:
        if not path.exists() or path.read_bytes() != raw:
            durable.make_directory(self.path)
            durable.write(path, raw, mode=0o644)


def _load(path: Path, new: JsonObject) -> JsonObject:
    try:
        return parse_object(path.read_bytes())
    except FileNotFoundError:
        return parse_object(_render(new))
    except Malformed as error:
        raise Permanent(Code.INPUT, f"{path} is no policy", expected="a JSON object", got=str(error)) from None


def _render(document: JsonObject) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def _object(document: JsonObject, name: str) -> JsonObject:
    value = document.setdefault(name, {})
    if not isinstance(value, dict):
        raise _shape(name, "an object")
    return value


def _array(document: JsonObject, name: str) -> list[JsonValue]:
    value = document.setdefault(name, [])
    if not isinstance(value, list):
        raise _shape(name, "an array")
    return value


def _add(document: JsonObject, name: str, value: str) -> None:
    values = _array(document, name)
    if value not in values:
        values.append(value)


def _shape(name: str, expected: str) -> Permanent:
    return Permanent(
        Code.INPUT, f"the policy's member {name!r} has another shape", expected=expected, got="another type"
    )
