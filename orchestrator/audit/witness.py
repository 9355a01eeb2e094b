"""A witness (c2sp.org/tlog-witness): cosigns a log's checkpoint when it only grew since the last one it saw.

Zone: whoever is not the log's host. May import: `orchestrator.audit`, `orchestrator.faults`.

It remembers one checkpoint a log, and that durably before it answers. What a log that was rewound, rewritten, or shows
two people two histories cannot get is a second cosignature; what it leaves behind here is the proof of what it tried.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.malformed import canonical_base64, decimal, encode_base64, malformed
from orchestrator.audit.merkle import EMPTY_ROOT, HASH_BYTES, MAX_PROOF_HASHES, check_consistency
from orchestrator.audit.note import MAX_NOTE_BYTES, Note, SignatureType, SigningKey, VerifierKey
from orchestrator.audit.policy import NONE, Party, Policy
from orchestrator.audit.storage import Store
from orchestrator.faults import Code, Permanent

MAX_REQUEST_BYTES: Final = MAX_NOTE_BYTES + 64 * 64
SIZE_TYPE: Final = "text/x.tlog.size"
TEXT_TYPE: Final = "text/plain; charset=utf-8"
_SIZE_ZERO: Final = f"\n0\n{encode_base64(EMPTY_ROOT)}\n"


@dataclass(frozen=True, slots=True)
class Request:
    """The body of add-checkpoint: a former size, the proof from there, the log's new checkpoint."""

    old: int
    proof: tuple[bytes, ...]
    note: Note

    @classmethod
    def parse(cls, raw: bytes) -> Request:
        """Raises Permanent(AUDIT_FORMAT)."""
        if len(raw) > MAX_REQUEST_BYTES:
            raise malformed("the request", f"at most {MAX_REQUEST_BYTES} bytes", f"{len(raw)} bytes")
        head, blank, note = raw.partition(b"\n\n")
        first, *lines = head.decode("utf-8", "replace").split("\n")
        if not blank or not first.startswith("old ") or len(lines) > MAX_PROOF_HASHES:
            raise malformed("the request", "old SIZE, at most 63 hashes, an empty line, a checkpoint", first)
        old = decimal(first.removeprefix("old "), "the old size")
        proof = tuple(canonical_base64(line, "a hash of the proof", HASH_BYTES) for line in lines)
        return cls(old, proof, Note.parse(note))

    def encode(self) -> bytes:
        """The bytes that `parse` reads."""
        lines = [f"old {self.old}", *map(encode_base64, self.proof), "", ""]
        return "\n".join(lines).encode() + self.note.encode()


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back over HTTP."""

    status: HTTPStatus
    body: str
    type: str = TEXT_TYPE


def origin_name(origin: str) -> str:
    """The name under which a log's last checkpoint is kept and served."""
    return hashlib.sha256(origin.encode()).hexdigest()


class Witness:
    """One witness's memory and key. Safe to be called from several threads.

    Raises Permanent(AUDIT_SIGNATURE, AUDIT_FORMAT) when made on a memory that is not its own: one that forgot what it
    saw would cosign anything.
    """

    def __init__(self, store: Store, key: SigningKey, logs: Iterable[VerifierKey], clock: Callable[[], float]) -> None:
        self._store = store
        self._key = key
        self._verifier = key.verifier(SignatureType.COSIGNATURE_V1)
        self._policies = {log.name: Policy((Party(log, ""),), {}, {}, NONE) for log in logs}
        self._clock = clock
        self._turn = threading.Lock()
        self._seen = {origin: self._recall(origin) for origin in self._policies}

    def _recall(self, origin: str) -> Checkpoint:
        raw = self._store.read(origin_name(origin))
        if raw is None:
            return Checkpoint(origin, 0, EMPTY_ROOT)
        note = Note.parse(raw)
        note.verified_by([self._verifier])
        return self._policies[origin].accept(note).checkpoint

    def checkpoint(self, name: str) -> Response:
        """GET <prefix>/<origin hash>/checkpoint: the last one cosigned."""
        known = name in {origin_name(origin) for origin in self._policies}
        raw = self._store.read(name) if known else None
        if raw is None:
            return Response(HTTPStatus.NOT_FOUND, "no checkpoint of such a log was cosigned here\n")
        return Response(HTTPStatus.OK, raw.decode())

    def add_checkpoint(self, body: bytes) -> Response:
        """POST <prefix>/add-checkpoint. Never raises for what a log may send."""
        try:
            request = Request.parse(body)
        except Permanent as fault:
            return _refusal(HTTPStatus.BAD_REQUEST, fault)
        with self._turn:  # compared and remembered as one
            return self._decide(request, body)

    def _decide(self, request: Request, body: bytes) -> Response:
        origin, rest = request.note.text.partition("\n")[::2]
        policy = self._policies.get(origin)
        if policy is None:
            return Response(HTTPStatus.NOT_FOUND, "this log is not known here\n")
        if rest.startswith("0\n") and f"\n{rest}" != _SIZE_ZERO:
            return Response(HTTPStatus.UNPROCESSABLE_ENTITY, "a log without entries has the empty tree's root\n")
        try:
            shown = policy.accept(request.note).checkpoint
        except Permanent as fault:
            malformed_ = fault.code is Code.AUDIT_FORMAT
            return _refusal(HTTPStatus.BAD_REQUEST if malformed_ else HTTPStatus.FORBIDDEN, fault)
        seen = self._seen[origin]
        if request.old > shown.size:
            if request.old == seen.size:
                self._keep(origin, body)
            return Response(HTTPStatus.BAD_REQUEST, f"{Code.AUDIT_ROLLBACK}: the old size is above the checkpoint's\n")
        if request.old != seen.size:
            return Response(HTTPStatus.CONFLICT, f"{seen.size}\n", SIZE_TYPE)
        try:
            check_consistency(seen.size, seen.root, shown.size, shown.root, request.proof)
        except Permanent as fault:
            self._keep(origin, body)
            return _refusal(HTTPStatus.UNPROCESSABLE_ENTITY, fault)
        return self._cosign(origin, request.note, shown)

    def _cosign(self, origin: str, note: Note, shown: Checkpoint) -> Response:
        log = self._policies[origin].logs[0].key
        (own,) = note.verified_by([log])
        cosignature = self._key.cosign(note.text, int(self._clock()))
        self._store.replace(origin_name(origin), Note(note.text, (own.signature, cosignature)).encode())
        self._seen[origin] = shown
        return Response(HTTPStatus.OK, cosignature.line())

    def _keep(self, origin: str, body: bytes) -> None:
        """A signed checkpoint that cannot follow the one we hold: together they prove the log's misbehaviour."""
        name = f"{origin_name(origin)}.refused/{hashlib.sha256(body).hexdigest()}"
        self._store.replace(name, body)


def _refusal(status: HTTPStatus, fault: Permanent) -> Response:
    return Response(status, f"{fault.diagnostics()}\n")
