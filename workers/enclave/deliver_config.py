"""deliver_config: the enclave's half. The host's proposal is judged; configuration and key go to the app enclave.

Zone: enclave. May import: `workers.enclave`, `orchestrator.{events,faults,launch}`.

1. The owner's launch policy comes from the key broker.
2. What the host proposes for the process is judged by it; nothing that it does not admit happens.
3. The secrets that the policy names for this image, and its volumes' keys, come from the key broker and the pod's key.
4. An app enclave of an admitted measurement has attested itself, and says which container it is for.
5. Configuration, store key and secrets go to it through the attested channel: once for each container. It answers what
   it has taken of the host's data, before anything runs. Where the policy seals the output, a key for that goes with
   them, and the fact names its head and its readers.

There is one attempt, so what is asked of broker and host in 1 to 3 is asked again while they are away.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Final

from orchestrator.events import Command, ConfigDelivered
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch
from schemas import strict_json
from workers.enclave import messages
from workers.enclave.boot.output import OutputSeal
from workers.enclave.door import proposed_process
from workers.enclave.kbs.client import KbsClient
from workers.enclave.kbs.uri import ResourceUri
from workers.enclave.launch_policy.approved import ApprovedProcess
from workers.enclave.launch_policy.judge import judge_process
from workers.enclave.output import seal_for
from workers.enclave.patience import answered
from workers.enclave.policy_cache import LaunchPolicies
from workers.enclave.sessions import Session, Sessions
from workers.enclave.volume_keys import VolumeKeys
from workers.enclave.work import ContainerWork, Works

UPPER_BYTES: Final = 512 << 20
"""What a workload may write where nothing limits its memory: it lives there."""

LEAST_UPPER_BYTES: Final = 16 << 20


class DeliverConfig:
    """The transition fs-sealed -> config-delivered of a container."""

    def __init__(self, kbs: KbsClient, policies: LaunchPolicies, sessions: Sessions, works: Works) -> None:
        self._kbs = kbs
        self._policies = policies
        self._sessions = sessions
        self._works = works
        self._volume_keys = VolumeKeys()

    async def __call__(self, command: Command, launch: Launch) -> ConfigDelivered:  # noqa: ARG002 - every step is called so
        """Raises Permanent(CONFIG_PROCESS_DENIED, CONFIG_APP_MEASUREMENT, CONFIG_USED...) and the KBS client's."""
        work = self._claim(command)
        try:
            approved = await self._judge(command, work)  # checks 1 and 2
            secrets = {uri: await self._resource(uri) for uri in approved.secret_uris}  # check 3
            check_variables(approved, secrets)
            keys = {uri: await self._resource(uri) for uri in {volume.key for volume in approved.volumes if volume.key}}
            volumes = self._volume_keys.of(approved, keys)
            session = await self._sessions.wait(command.container, command.attempt)  # check 4
            seal = seal_for(
                work.recipients, command.pod, command.container, command.attempt, terminal=approved.terminal
            )
            host_data = await self._hand_over(session, work, approved, secrets, volumes, seal)  # check 5
        except BaseException:
            self._works.drop(command.container)  # there is no other attempt: the key ends here
            raise
        return ConfigDelivered(
            config_sha256=approved.digest.removeprefix("sha256:"),
            verdict=approved.verdict,
            measurement=session.peer.mrenclave.hex(),
            host_data=host_data,
            output_key_ids=tuple(recipient.thumbprint for recipient in work.recipients),
            output_head_sha256=hashlib.sha256(seal.head).hexdigest() if seal else "",
        )

    def _claim(self, command: Command) -> ContainerWork:
        work = self._works.get(command.container)
        if work is None or work.sealed is None or work.delivered:
            raise Permanent(
                Code.CONFIG_USED,
                "this agent has no undelivered store for the container",
                expected="a store sealed by this agent, whose key was not handed over yet",
                got="delivered before" if work is not None and work.delivered else "none",
                advice="create the container again",
            )
        return work

    async def _judge(self, command: Command, work: ContainerWork) -> ApprovedProcess:
        policy = await self._policies.get()
        proposed = await answered(partial(proposed_process, command.container))
        approved = judge_process(policy, work.plan.reference, work.plan.config, proposed)
        work.rule, work.execs = approved.rule, policy.execs_of(approved.rule)
        work.recipients = policy.recipients_of(approved.rule)
        return approved

    async def _resource(self, uri: str) -> bytes:
        return await answered(partial(self._kbs.get_resource, ResourceUri.parse(uri)))

    async def _hand_over(
        self,
        session: Session,
        work: ContainerWork,
        approved: ApprovedProcess,
        secrets: dict[str, bytes],
        volumes: dict[str, bytes],
        seal: OutputSeal | None,
    ) -> tuple[str, ...]:
        sealed = work.sealed
        if sealed is None:
            raise RuntimeError("claimed without a sealed store")
        work.delivered = True
        message = messages.pack(
            "config",
            process=approved.encode().decode(),
            root_hash=sealed.root_hash.hex(),
            key=base64.b64encode(sealed.key.material).decode(),
            upper_bytes=upper_bytes(approved.memory_limit),
            secrets={uri: base64.b64encode(value).decode() for uri, value in secrets.items()},
            volumes={destination: base64.b64encode(key).decode() for destination, key in volumes.items()},
            output=seal.encode() if seal else {},
        )
        try:
            await session.channel.send(message)
            accepted = messages.unpack(await session.channel.receive(), "accepted")
            with messages.understood("accepted"):
                return strict_json.strings(accepted, "host_data")
        except BaseException:
            session.channel.close()
            raise
        finally:
            sealed.key.wipe()


def upper_bytes(memory_limit: int) -> int:
    """What a workload may write under a limit of so many bytes, 0 for none: half of it, as a tmpfs of its own would.

    So a full root is an error of the write, and not the end of the whole enclave. The limit is the host's word: it can
    only make this smaller, which it could by other means.
    """
    return min(UPPER_BYTES, max(memory_limit // 2, LEAST_UPPER_BYTES)) if memory_limit else UPPER_BYTES


def check_variables(approved: ApprovedProcess, secrets: Mapping[str, bytes]) -> None:
    """Whether every secret that is to be a variable can be one: an OCI configuration holds text, a variable no NUL.

    Raises:
        Permanent: KEY_MALFORMED, naming the resource and nothing of its bytes.
    """
    for secret in approved.secrets:
        if secret.env and not _is_text_without_nul(secrets[secret.uri]):
            raise Permanent(
                Code.KEY_MALFORMED,
                f"{secret.uri} cannot be the variable {secret.env}",
                expected="UTF-8 without a NUL",
                got="other bytes",
                advice="deliver it as a file: `path` instead of `env` in the launch policy",
            )


def _is_text_without_nul(value: bytes) -> bool:
    try:
        return "\0" not in value.decode()
    except UnicodeDecodeError:
        return False
