"""`enclave-cc replay`: fold recorded histories again, with today's code or before another policy.

Zone: host. May import: `click`, `rich`, `orchestrator`, the standard library.

Ends with 1 where a launch would come out otherwise, so that it can stand in a pipeline.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import click

from orchestrator.bus import Bus, Histories
from orchestrator.cli import drawing, fleet
from orchestrator.cli.sources import Source, source
from orchestrator.cli.subcommand import Subcommand, answers_json, ask, print_json, reads_the_bus, takes_launches
from orchestrator.faults import Permanent
from orchestrator.fold import fold
from orchestrator.launch import Launch
from orchestrator.replay.diverge import Divergence, first_divergence
from orchestrator.replay.query import Query
from orchestrator.replay.whatif import Judge, Judged, Outcome
from orchestrator.story import title

JudgeOf: TypeAlias = Callable[[Path, Path | None], Judge]
_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Replayed:
    """One launch folded again. `broken` says why it could not be; then nothing else is known."""

    pod: str
    title: str
    messages: int
    divergence: Divergence | None
    judged: tuple[Judged, ...]
    broken: str

    @property
    def same(self) -> bool:
        """Whether nothing would come out otherwise."""
        changed = any(one.outcome in (Outcome.DENIED, Outcome.ADMITTED) for one in self.judged)
        return not (self.broken or self.divergence or changed)


def command(judge_of: JudgeOf) -> click.Command:
    """The subcommand, with the judges that the deployment composes."""

    @click.command(name="replay", cls=Subcommand)
    @takes_launches
    @fleet.takes_a_query
    @click.option("--policy", type=_file, help="Judge the recorded evidence by this policy instead: Rego or JSON.")
    @click.option("--reference-values", type=_file, help="What an attestation policy asks for: the broker's JSON.")
    @answers_json
    @reads_the_bus
    def replay(
        launches: tuple[str, ...],
        config: Path | None,
        stack: str | None,
        *,
        everything: bool,
        policy: Path | None,
        reference_values: Path | None,
        as_json: bool,
        **conditions: Any,
    ) -> None:
        """Fold histories again with today's code, and name the first fact that it would decide otherwise.

        Each LAUNCH is the beginning of a pod's id, namespace/name, an exported file, or imported:ID. With --policy the
        recorded evidence is judged by another policy, as far as the history holds enough. Nothing is changed.
        """
        fleet.one_or_all(launches, everything=everything)
        judge = judge_of(policy, reference_values) if policy else None
        asked = fleet.query(**conditions)
        if everything:
            found = ask(config, stack, _everything)
        else:
            found = [source(launch, config, stack) for launch in launches]
        replayed = [again(one, judge) for one in found if not everything or _admitted(one, asked)]
        if as_json:
            print_json({"replayed": [_document(one) for one in replayed], "summary": _counted(replayed)})
        else:
            _print(replayed, everything=everything)
        sys.exit(0 if all(one.same for one in replayed) else 1)

    return replay


async def _everything(bus: Bus) -> list[Source]:
    return await fleet.every_source(Histories(bus))


def _admitted(found: Source, asked: Query) -> bool:
    try:
        return asked.admits(fold(found.pod, found.messages), fleet.began_ns(found))
    except Permanent:
        return asked == Query()  # what cannot be folded meets no condition, and is told where there is none


def again(found: Source, judge: Judge | None) -> Replayed:
    """Fold one history again."""
    recorded = found.exported.decided if found.exported else None
    divergence = first_divergence(found.pod, found.messages, recorded)
    try:
        launch: Launch | None = fold(found.pod, found.messages)
        broken = ""
    except Permanent as fault:
        launch, broken = None, str(fault)
    judged = tuple(judge.judge(launch)) if judge and launch else ()
    name = title(launch) if launch else found.pod
    return Replayed(found.pod, name, len(found.messages), divergence, judged, broken)


def _print(replayed: list[Replayed], *, everything: bool) -> None:
    for one in replayed:
        if everything and one.same:
            continue
        click.echo(drawing.printable(f"{one.title}  pod {one.pod[: drawing.SHORT]}: {_verdict(one)}"))
        if one.divergence is not None:
            at = one.divergence
            whose = f" of container {at.container[: drawing.SHORT]}" if at.container else ""
            click.echo(
                drawing.printable(f"  first at fact {at.index or '-'} ({at.kind}{whose}, message {at.sequence})")
            )
            click.echo(drawing.printable(f"    then   {at.then}"))
            click.echo(drawing.printable(f"    today  {at.today}"))
        for judged in one.judged:
            whose = f" (container {judged.container[: drawing.SHORT]})" if judged.container else ""
            click.echo(drawing.printable(f"  {judged.about} {judged.subject}: {judged.outcome}{whose}"))
            click.echo(drawing.printable(f"    then   {judged.then}"))
            click.echo(drawing.printable(f"    now    {judged.now}"))
    if everything:
        counted = _counted(replayed)
        click.echo(", ".join(f"{count} {what}" for what, count in counted.items()) or "no launch is meant")


def _verdict(one: Replayed) -> str:
    if one.broken and not one.divergence:
        return one.broken
    if one.divergence:
        return "today's code decides otherwise"
    return f"today's code decides its {one.messages} messages as they were decided"


def _counted(replayed: Iterable[Replayed]) -> dict[str, int]:
    def kinds() -> Iterable[str]:
        for one in replayed:
            yield "broken" if one.broken else "decided otherwise" if one.divergence else "decided the same"
            yield from (f"{judged.about} {judged.outcome}" for judged in one.judged)

    return dict(Counter(kinds()))


def _document(one: Replayed) -> dict[str, Any]:
    return {
        "pod": one.pod,
        "title": one.title,
        "messages": one.messages,
        "same": one.same,
        "broken": one.broken or None,
        "divergence": asdict(one.divergence) if one.divergence else None,
        "judged": [asdict(judged) for judged in one.judged],
    }
