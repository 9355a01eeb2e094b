"""Taking contents out of an exported launch, so that chain and proofs still hold; and checking the proofs.

Zone: any. May import: `orchestrator.{audit,faults,replay}`. Pure.

What is taken out is whole messages, by kind: a fact's statement is one piece to the digests, and so to every proof. In
place of its bytes stay its place, its kind, its digests, its leaf and what was decided at it. Two things are lost, and
`import` says so: the launch cannot be folded anew, and what was taken out cannot be checked against its own digest.

`NAMES` are the kinds that say where and for whom something ran: everything that the host stated, for the host's facts
name their node, and what names images and people. What is left is how far the launch came, how long it took, the
enclave's evidence (with the key broker's address, which the owner's init-data has), and what was decided at each fact.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.merkle import check_inclusion
from orchestrator.audit.policy import Accepted, Policy
from orchestrator.audit.proof import LogProof
from orchestrator.faults import Code, Permanent
from orchestrator.replay.bundle import Exported, Item

NAMES: Final = (
    "pod-requested",
    "sandbox-created",
    "agent-up",
    "container-requested",
    "image-decrypted",
    "start-requested",
    "app-started",
    "step-failed",
    "exited",
    "stop-requested",
    "torn-down",
    "agent-lost",
    "resume-requested",
    "forked-from",
)


def redact(exported: Exported, kinds: Collection[str]) -> Exported:
    """Take out the messages of these kinds. Raises Permanent(INPUT) when there is none, or a kind is unknown here."""
    present = {item.kind for item in exported.items if item.index}
    if missing := set(kinds) - present - set(NAMES):
        raise Permanent(
            Code.INPUT,
            f"there is no {min(missing)} in this history",
            expected=f"kinds among {', '.join(sorted(present))}",
            got=", ".join(sorted(kinds)),
        )
    items = tuple(replace(i, raw=None) if i.index and i.kind in kinds else i for i in exported.items)
    title = "" if "pod-requested" in kinds else exported.title
    return replace(exported, items=items, title=title)


def check_proofs(exported: Exported, policy: Policy) -> list[tuple[Accepted, int]]:
    """Hold every proof in the file to a checkpoint that `policy` accepts, from the message's leaf.

    Returns each checkpoint, and how many messages were led to it; others may be without a proof.
    Raises Permanent: NOT_FOUND where no message has a proof; AUDIT_FORMAT, AUDIT_SIGNATURE, AUDIT_QUORUM,
    AUDIT_INCLUSION.
    """
    proved = [item for item in exported.items if item.proof]
    if not proved:
        raise Permanent(
            Code.NOT_FOUND,
            "there is no proof in this export",
            expected="proofs of the audit log",
            got=f"{len(exported.items)} messages without",
            advice="export it again where there is an audit log that is believed, or with --proofs",
        )
    led: dict[Checkpoint, tuple[Accepted, int]] = {}
    for accepted in (_prove(item, policy) for item in proved):
        _, before = led.get(accepted.checkpoint, (accepted, 0))
        led[accepted.checkpoint] = accepted, before + 1
    return list(led.values())


def _prove(item: Item, policy: Policy) -> Accepted:
    proof = LogProof.parse(item.proof.encode())
    accepted = policy.accept(proof.checkpoint)
    check_inclusion(item.leaf, proof.index, accepted.checkpoint.size, proof.path, accepted.checkpoint.root)
    return accepted
