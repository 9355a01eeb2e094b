"""attest: the agent proves itself to the owner's key broker, and binds the key that signs its facts.

Zone: enclave. May import: `workers.enclave`, `orchestrator.{events,faults,launch}`.

Two quotes, because they answer two questions: the broker's binds the handshake's nonce and the key that secrets are
encrypted to; the fact's binds the event key to the pod, and anyone may check it later without the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.events import Attested, Command
from orchestrator.launch import Launch
from schemas.sgx import ReportBody
from workers.enclave.event_key import EventKey
from workers.enclave.init_data import InitData
from workers.enclave.tee.interface import Tee

if TYPE_CHECKING:
    from workers.enclave.kbs.client import KbsClient

_REPORT = slice(48, 432)


class Attest:
    """The transition agent-up -> attested."""

    def __init__(self, tee: Tee, kbs: Callable[[], KbsClient], init_data: InitData, key: EventKey) -> None:
        """`kbs` is called in a thread, when the broker is asked: it may import."""
        self._tee = tee
        self._kbs = kbs
        self._init_data = init_data
        self._key = key

    async def __call__(self, command: Command, launch: Launch) -> Attested:  # noqa: ARG002 - every step is called so
        """Raises what KbsClient.attest raises, and what the TEE raises."""
        result = await asyncio.to_thread(lambda: self._kbs().attest())
        quote = await asyncio.to_thread(self._tee.quote, self._key.report_data(command.pod))
        return Attested(
            quote=quote,
            measurement=ReportBody.parse(quote[_REPORT]).mrenclave.hex(),
            tcb_status=result.claims.tcb_status,
            simulated=result.claims.simulated,
            token_sha256=result.token_sha256,
            event_public_key=self._key.public,
            kbs=self._init_data.kbs_url,
        )
