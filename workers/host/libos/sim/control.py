"""What the host worker and the daemon say to each other: JSON in a frame, one request and one reply a connection.

The socket is root's (mode 0600). Requests, with their `do` member: `mount` (bundle), `einit` (pid, image_sha256,
config_id, debug), `release` (pid), `status`. A reply is `{"done": ...}` or `{"fault": ...}`. Both sides are parsed
strictly here; nobody else sees a dict.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeAlias

from orchestrator.faults import Code, Diagnosis, Fault, Permanent, Temporary
from schemas.strict_json import JsonObject, Malformed, parse_object
from workers.host.libos.backend import MountedBundle
from workers.host.libos.entry import MAX_ENTRY_BYTES, Entry

MAX_CONTROL_BYTES: Final = 4 * MAX_ENTRY_BYTES
_HEX_64: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_HEX_128: Final = re.compile(r"[0-9a-f]{128}", re.ASCII)
_MAX_PID: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class MountRequest:
    """Measure and mount the image file at an absolute path. Done: `MountedBundle`."""

    bundle: Path


@dataclass(frozen=True, slots=True)
class EinitRequest:
    """Make a process an enclave. Done: nothing."""

    pid: int
    image_sha256: str
    config_id: bytes
    debug: bool


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """Forget an enclave. Done: nothing."""

    pid: int


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """Tell what there is. Done: `Status`."""


Request: TypeAlias = MountRequest | EinitRequest | ReleaseRequest | StatusRequest


@dataclass(frozen=True, slots=True)
class EnclaveStatus:
    """A living enclave: the pid of its first process, its MRENCLAVE in hex, whether it may be debugged."""

    pid: int
    mrenclave: str
    debug: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What the simulated CPU holds: enclaves, and the SHA-256 of each mounted image in hex."""

    enclaves: tuple[EnclaveStatus, ...]
    bundles: tuple[str, ...]


def encode_request(request: Request) -> bytes:
    """As `parse_request` reads it."""
    match request:
        case MountRequest(bundle):
            return _dump({"do": "mount", "bundle": str(bundle)})
        case EinitRequest(pid, image_sha256, config_id, debug):
            return _dump(
                {"do": "einit", "pid": pid, "image_sha256": image_sha256, "config_id": config_id.hex(), "debug": debug}
            )
        case ReleaseRequest(pid):
            return _dump({"do": "release", "pid": pid})
        case StatusRequest():
            return _dump({"do": "status"})


def parse_request(raw: bytes) -> Request:
    """`Permanent(INPUT)` for anything but the four requests."""
    members = _load(raw)
    match members:
        case {"do": "mount", "bundle": str(bundle), **rest} if not rest and bundle[:1] == "/" and "\0" not in bundle:
            return MountRequest(Path(bundle))
        case {
            "do": "einit",
            "pid": int(pid),
            "image_sha256": str(sha256),
            "config_id": str(config_id),
            "debug": bool(debug),
            **rest,
        } if not rest and _is_pid(pid) and _HEX_64.fullmatch(sha256) and _HEX_128.fullmatch(config_id):
            return EinitRequest(pid, sha256, bytes.fromhex(config_id), debug)
        case {"do": "release", "pid": int(pid), **rest} if not rest and _is_pid(pid):
            return ReleaseRequest(pid)
        case {"do": "status", **rest} if not rest:
            return StatusRequest()
        case _:
            raise _malformed("request")


def encode_bundle(bundle: MountedBundle) -> bytes:
    """The reply to `mount`."""
    document = {
        "path": str(bundle.path),
        "image_sha256": bundle.image_sha256,
        "expected_measurement": bundle.expected_measurement.hex(),
        "entry": bundle.entry.document(),
    }
    return _dump({"done": document})


def parse_bundle(raw: bytes) -> MountedBundle:
    """From the reply to `mount`; raises the daemon's fault, or `Permanent(INPUT)` for a reply that is none."""
    match _done(raw):
        case {
            "path": str(path),
            "image_sha256": str(sha256),
            "expected_measurement": str(mrenclave),
            "entry": entry,
        } if _HEX_64.fullmatch(sha256) and _HEX_64.fullmatch(mrenclave):
            return MountedBundle(Path(path), sha256, bytes.fromhex(mrenclave), Entry.parse(_dump(entry)))
        case _:
            raise _malformed("reply")


def encode_nothing() -> bytes:
    """The reply to `einit` and `release`."""
    return _dump({"done": None})


def parse_nothing(raw: bytes) -> None:
    """From the reply to `einit` and `release`; raises as `parse_bundle`."""
    if _done(raw) is not None:
        raise _malformed("reply")


def encode_status(status: Status) -> bytes:
    """The reply to `status`."""
    return _dump({"done": asdict(status)})


def parse_status(raw: bytes) -> Status:
    """From the reply to `status`; raises as `parse_bundle`."""
    match _done(raw):
        case {"enclaves": list(enclaves), "bundles": list(bundles)}:
            return Status(tuple(_enclave(enclave) for enclave in enclaves), tuple(str(sha256) for sha256 in bundles))
        case _:
            raise _malformed("reply")


def encode_fault(fault: Fault) -> bytes:
    """The reply that says no."""
    return _dump({"fault": asdict(fault.diagnosis)})


def _enclave(document: object) -> EnclaveStatus:
    match document:
        case {"pid": int(pid), "mrenclave": str(mrenclave), "debug": bool(debug)}:
            return EnclaveStatus(pid, mrenclave, debug)
        case _:
            raise _malformed("reply")


def _done(raw: bytes) -> object:
    match _load(raw):
        case {"done": done, **rest} if not rest:
            return done
        case {"fault": dict(fault), **rest} if not rest:
            raise _fault(fault)
        case _:
            raise _malformed("reply")


def _fault(members: JsonObject) -> Fault:
    texts = {name: str(members.get(name, "")) for name in ("message", "expected", "got", "advice")}
    try:
        told = Diagnosis(Code(str(members.get("code"))), temporary=members.get("temporary") is True, **texts)
    except ValueError as error:
        raise _malformed("reply") from error
    kind = Temporary if told.temporary else Permanent
    return kind(told.code, told.message, expected=told.expected, got=told.got, advice=told.advice)


def _is_pid(value: int) -> bool:
    return not isinstance(value, bool) and 1 < value <= _MAX_PID


def _load(raw: bytes) -> JsonObject:
    try:
        return parse_object(raw)
    except Malformed as error:
        raise _malformed("message") from error


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _malformed(what: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        f"a control {what} of the simulated CPU is malformed",
        expected="one of the shapes of workers/host/libos/sim/control.py",
        advice="the host worker and the simulated CPU are of different versions: restart both",
    )
