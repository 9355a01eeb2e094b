"""Commands beside a workload (`kubectl exec`, exec probes, preStop): which ones the owner's launch policy admits.

The host proposes words, and whether there is a terminal; nothing else of its proposal is looked at, because nothing
else is used: user, groups, capabilities, limits, variables and root are the workload's own. Denied unless an entry of
`exec` admits exactly this, in this order:

1. The rule that admitted the workload lists commands at all.
2. The words are those of an entry.
3. A terminal is asked for only where that entry grants one.

A denial tells the field and what the policy admits, never the words: `kubectl exec` is where passwords are typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Permanent
from workers.enclave.launch_policy.matcher import Exactly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.enclave.launch_policy.document import ExecRule

WITHHELD: Final = "*"
"""Stands for a word that the policy does not have itself."""


@dataclass(frozen=True, slots=True)
class AdmittedExec:
    """What to run. `told` are the words that may be told; `probe` is the entry's."""

    rule: str
    args: tuple[str, ...]
    told: tuple[str, ...]
    terminal: bool
    probe: bool


def judge_exec(rule: str, entries: Sequence[ExecRule], args: tuple[str, ...], *, terminal: bool) -> AdmittedExec:
    """Judge a command by the entries of the rule (named `rule`) that admitted the workload.

    Raises:
        Permanent: EXEC_DENIED.
    """
    fitting = [entry for entry in entries if entry.args.admits(args)]
    for entry in fitting:
        if entry.terminal or not terminal:
            told = tuple(_told(entry, place, word) for place, word in enumerate(args))
            return AdmittedExec(f"{rule}/{entry.name}", args, told, terminal, entry.probe)
    if fitting:
        names = ", ".join(entry.name for entry in fitting)
        raise _denied("the launch policy grants this command no terminal", f"{names} without a terminal", "a terminal")
    if entries:
        admitted = "; ".join(f"{entry.name}: {entry.args}" for entry in entries)
        raise _denied("the launch policy does not admit this command", admitted, f"another one, of {len(args)} words")
    raise _denied(
        "the launch policy admits no command beside the workload",
        f"commands listed under `exec` of rule {rule}",
        "none; exec is denied unless the owner allows it",
    )


def _told(entry: ExecRule, place: int, word: str) -> str:
    matcher = entry.args.places[place] if place < len(entry.args.places) else entry.args.rest
    return word if isinstance(matcher, Exactly) else WITHHELD


def _denied(message: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.EXEC_DENIED,
        message,
        expected=expected[:3000],
        got=got,
        advice="let the owner add the command to `exec` of the image's rule in the launch policy",
    )
