"""Entries for other tools: JSONL, CSV, OCSF, CEF, OTLP.

Zone: any. May import: `orchestrator.audit`, the standard library. Pure.

Conveniences, all but one: a line of `jsonl` is a leaf's exact bytes, so that its hash is the log's. Each of the others
carries the entry's index and leaf hash, by which the evidence is found again.
"""

from __future__ import annotations

import calendar
import csv
import io
import json
import time
from collections.abc import Callable, Mapping
from typing import Final

from orchestrator.audit.merkle import leaf_hash
from orchestrator.audit.search import Found, statement

_COLUMNS: Final = (
    ("log_index", "leaf_hash", "at", "pod", "container", "kind", "zone", "actor", "transition", "attempt", "code")
    + ("index", "sequence", "subject", "signed", "envelope_sha256", "envelope_bytes")
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_STARTS: Final = {"app-booted", "sandbox-created", "agent-up", "app-started"}
_STOPS: Final = {"exited", "torn-down", "agent-lost", "stop-requested"}


def jsonl(found: Found) -> str:
    """The leaf itself."""
    return found.leaf.decode()


def csv_line(found: Found) -> str:
    """RFC 4180, the columns of `CSV_HEADER`. A cell that a spreadsheet would run gets an apostrophe before it."""
    return _csv([_cell(value) for value in _flat(found).values()])


def ocsf(found: Found) -> str:
    """OCSF Application Lifecycle (class_uid 6002), one JSON object."""
    entry = found.entry
    name, activity = "Other", 99
    if entry.kind in _STARTS:
        name, activity = "Start", 3
    elif entry.kind in _STOPS:
        name, activity = "Stop", 4
    event = {
        "activity_id": activity,
        "activity_name": entry.kind if activity == 99 else name,
        "app": {"name": entry.container or entry.pod, "uid": entry.pod, "vendor_name": "enclave-cc"},
        "actor": {"app_name": entry.actor},
        "category_name": "Application Activity",
        "category_uid": 6,
        "class_name": "Application Lifecycle",
        "class_uid": 6002,
        "message": entry.kind,
        "metadata": {
            "log_name": "audit",
            "product": {"name": "enclave-cc", "vendor_name": "enclave-cc"},
            "sequence": found.index,
            "uid": leaf_hash(found.leaf).hex(),
            "version": "1.3.0",
        },
        "severity_id": 3 if entry.code else 1,
        "status_code": entry.code,
        "status_id": 2 if entry.code else 1,
        "time": _nanoseconds(entry.at) // 1_000_000,
        "type_uid": 600_200 + activity,
        "unmapped": {"audit": _flat(found), "statement": statement(entry)},
    }
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def cef(found: Found) -> str:
    """ArcSight's Common Event Format, version 0, without the syslog prefix."""
    entry = found.entry
    head = ("enclave-cc", "audit", "1", entry.code or entry.kind, entry.kind, "6" if entry.code else "3")
    extension = {
        "rt": str(_nanoseconds(entry.at) // 1_000_000),
        "suser": entry.actor,
        "externalId": str(found.index),
        "outcome": "failure" if entry.code else "success",
        "cs1Label": "leafHash",
        "cs1": leaf_hash(found.leaf).hex(),
        "cs2Label": "pod",
        "cs2": entry.pod,
        "cs3Label": "container",
        "cs3": entry.container,
        "cs4Label": "zone",
        "cs4": entry.zone,
        "cs5Label": "transition",
        "cs5": entry.transition,
        "cn1Label": "attempt",
        "cn1": str(entry.attempt),
    }
    fields = " ".join(f"{name}={_cef_value(value)}" for name, value in extension.items() if value)
    return "|".join(("CEF:0", *map(_cef_head, head), fields))


def otlp(found: Found) -> str:
    """An OTLP/JSON logs message with one record, as the file exporter writes a line."""
    entry = found.entry
    attributes = {f"audit.log.{name}": value for name, value in _flat(found).items()}
    record = {
        "timeUnixNano": str(_nanoseconds(entry.at)),
        "severityNumber": 17 if entry.code else 9,
        "severityText": "ERROR" if entry.code else "INFO",
        "eventName": f"enclave-cc.{entry.kind}",
        "body": {"stringValue": entry.kind},
        "attributes": [_otlp_attribute(name, value) for name, value in attributes.items()],
    }
    scope = {"scope": {"name": "enclave-cc.audit"}, "logRecords": [record]}
    resource = {"attributes": [_otlp_attribute("service.name", "enclave-cc")]}
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}, separators=(",", ":"))


FORMATS: Final[Mapping[str, Callable[[Found], str]]] = {
    "jsonl": jsonl,
    "csv": csv_line,
    "ocsf": ocsf,
    "cef": cef,
    "otlp": otlp,
}


def header(format_: str) -> str:
    """What stands before the first line, or nothing."""
    return _csv(list(_COLUMNS)) if format_ == "csv" else ""


def _flat(found: Found) -> dict[str, str | int | bool]:
    told = found.entry.flat() | {"log_index": found.index, "leaf_hash": leaf_hash(found.leaf).hex()}
    return {name: told[name] for name in _COLUMNS}


def _csv(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _cell(value: str | int | bool) -> str:
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text


def _cef_head(value: str) -> str:
    return _one_line(value).replace("\\", "\\\\").replace("|", "\\|")


def _cef_value(value: str) -> str:
    return _one_line(value).replace("\\", "\\\\").replace("=", "\\=")


def _one_line(value: str) -> str:
    return "".join(" " if character < " " or character in "\x7f\u2028\u2029" else character for character in value)


def _otlp_attribute(name: str, value: str | int | bool) -> dict[str, object]:
    if isinstance(value, bool):
        return {"key": name, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": name, "value": {"intValue": str(value)}}
    return {"key": name, "value": {"stringValue": value}}


def _nanoseconds(at: str) -> int:
    """The time of an entry since 1970; 0 for what has none."""
    if not at:
        return 0
    second, _, fraction = at.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(second, "%Y-%m-%dT%H:%M:%S")) * 10**9 + int(fraction)
