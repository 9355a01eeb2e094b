"""Check 9: the event stream still holds what was logged of it.

Zone: host, or whoever may read the bus. May import: `orchestrator.{audit,bus}`.
"""

from __future__ import annotations

from contextlib import aclosing

from orchestrator.audit.divergence import Comparison, Difference
from orchestrator.audit.entry import Entry
from orchestrator.audit.reader import LogReader
from orchestrator.audit.report import Examination, Findings, Report
from orchestrator.bus import Bus
from orchestrator.bus.transcript import up_to_now
from orchestrator.faults import Permanent

NUMBER = 9
ASKS = "the event stream holds the same messages still"


async def compare(reader: LogReader, size: int, bus: Bus) -> list[Difference]:
    """Walk the log and the stream side by side. Raises Temporary(BUS_AWAY), Permanent(AUDIT_TILE, AUDIT_STREAM)."""
    comparison = Comparison()
    entries = ((index, Entry.decode(leaf)) for index, leaf in reader.entries(size))
    async with aclosing(up_to_now(bus)) as batches:
        async for batch in batches:
            for message in batch:
                comparison.stream(*message)
            for index, entry in entries:
                comparison.log(index, entry)
                if entry.sequence >= batch[-1].sequence:
                    break
    for index, entry in entries:
        comparison.log(index, entry)
    return comparison.differences()


async def compared(report: Report, reader: LogReader, size: int, bus: Bus) -> Report:
    """The report with check 9 at its end. Raises Temporary(BUS_AWAY)."""
    examination = Examination(list(report.checks), list(report.proved), list(report.not_proved))
    findings = Findings(told=f"{size} entries")
    try:
        for difference in await compare(reader, size, bus):
            findings.add(difference.fault())
    except Permanent as fault:
        findings.add(fault)
    examination.conclude(NUMBER, ASKS, findings)
    return examination.report()
