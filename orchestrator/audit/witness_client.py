"""Asking a witness for its cosignature (c2sp.org/tlog-witness), as the log's writer does.

Zone: host. May import: `orchestrator.audit`, `orchestrator.faults`, `urllib3`.
"""

from __future__ import annotations

from typing import Final

import urllib3

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.malformed import decimal
from orchestrator.audit.note import Note, Signature, parse_signatures
from orchestrator.audit.policy import Party
from orchestrator.audit.reader import LogReader
from orchestrator.audit.witness import MAX_REQUEST_BYTES, SIZE_TYPE, Request
from orchestrator.faults import Code, Fault, Permanent, Temporary

TIMEOUT: Final = 5.0
"""Seconds for a witness to answer. Slower ones are asked again with the next checkpoint."""

_OK, _CONFLICT, _UNPROCESSABLE = 200, 409, 422


class WitnessAhead(Permanent):
    """The witness has cosigned a larger tree of this log than we can show: we have lost entries."""


class WitnessClient:
    """One witness of the policy, at its address. It remembers the size that the witness saw last."""

    def __init__(self, party: Party, ca_file: str | None = None) -> None:
        self._party = party
        self._seen = 0
        self._http = urllib3.PoolManager(
            timeout=TIMEOUT, retries=False, ca_certs=ca_file, cert_reqs="CERT_REQUIRED", num_pools=1
        )

    @property
    def has_address(self) -> bool:
        """Whether the policy says where it answers; one without is only verified."""
        return bool(self._party.url)

    @property
    def name(self) -> str:
        """The witness's key name."""
        return self._party.key.name

    def cosign(self, note: Note, reader: LogReader) -> Signature:
        """Have `note`, the checkpoint of the log that `reader` reads, cosigned. Blocks for a few seconds at most.

        Raises Temporary(AUDIT_WITNESS) when it does not answer as it should, WitnessAhead(AUDIT_ROLLBACK),
        Permanent(AUDIT_FORK) when it saw another history.
        """
        size = Checkpoint.parse(note.text).size
        status, type_, body = self._post(note, reader, size)
        if status == _CONFLICT and type_ == SIZE_TYPE:
            self._seen = decimal(body.removesuffix("\n"), "the size that the witness tells")
            if self._seen > size:
                raise self._ahead(size)
            status, type_, body = self._post(note, reader, size)
        if status != _OK:
            raise self._refused(status, body)
        return self._accept(note, body, size)

    def _post(self, note: Note, reader: LogReader, size: int) -> tuple[int, str, str]:
        request = Request(self._seen, reader.prove_consistency(self._seen, size), note)
        url = f"{self._party.url.rstrip('/')}/add-checkpoint"
        try:
            answer = self._http.request("POST", url, body=request.encode(), redirect=False, preload_content=False)
            body = answer.read(MAX_REQUEST_BYTES).decode("utf-8", "replace")
            answer.drain_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._away(type(error).__name__) from error
        return answer.status, answer.headers.get("content-type", ""), body

    def _accept(self, note: Note, body: str, size: int) -> Signature:
        try:
            (verified,) = Note(note.text, parse_signatures(body)).verified_by([self._party.key])
        except Fault as fault:
            raise self._away(f"an answer without its cosignature: {fault.diagnosis.got}") from fault
        self._seen = size
        return verified.signature

    def _away(self, got: str) -> Temporary:
        return Temporary(
            Code.AUDIT_WITNESS,
            f"the witness {self.name} did not cosign",
            expected=f"a cosignature from {self._party.url}",
            got=got[:300],
            advice="see whether it runs; the log goes on, and asks again",
        )

    def _ahead(self, size: int) -> WitnessAhead:
        return WitnessAhead(
            Code.AUDIT_ROLLBACK,
            f"the witness {self.name} has seen more of this log than there is",
            expected=f"at most {size} entries",
            got=f"{self._seen} entries",
            advice="entries were lost here: rebuild the log from the event stream or a copy before it signs again",
        )

    def _refused(self, status: int, body: str) -> Fault:
        if status != _UNPROCESSABLE:
            return self._away(f"status {status}: {body}")
        return Permanent(
            Code.AUDIT_FORK,
            f"the witness {self.name} has seen another history of this log",
            expected="a checkpoint that continues the one it cosigned",
            got=body[:500],
            advice="this log was rewritten or rebuilt otherwise; its witness keeps the proof",
        )
