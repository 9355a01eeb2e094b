"""The owner's word to the agent: which key broker, which policies. Bound by the enclave's CONFIGID.

Zone: enclave. May import: `orchestrator.faults`, the standard library.

The file comes from the host, which cannot change it: its SHA-256 is the CONFIGID in every quote of this enclave, and
the key broker gives nothing to a CONFIGID that the owner did not list. Format: CoCo init-data 0.1.0 (TOML), with one
member of `[data]` ours, in which a member that is not one of these five is refused:

    version = "0.1.0"
    algorithm = "sha256"
    [data]
    "enclave-cc.toml" = '''
    kbs_url = "https://..."
    kbs_ca = "-----BEGIN CERTIFICATE-----..."
    image_policy = "kbs:///default/security-policy/image"
    launch_policy = "kbs:///default/launch-policy/default"
    registry_ca = "-----BEGIN CERTIFICATE-----..."     # optional: else the registry's host is not trusted either way
    '''
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.faults import Code, Permanent

MEMBER: Final = "enclave-cc.toml"
MAX_BYTES: Final = 256 * 1024
MEMBERS: Final = frozenset({"kbs_url", "kbs_ca", "image_policy", "launch_policy", "registry_ca"})


@dataclass(frozen=True, slots=True)
class InitData:
    """What the owner decided. `text` is the whole file, as the key broker wants to see it."""

    text: str
    kbs_url: str
    kbs_ca: str
    image_policy: str
    launch_policy: str
    registry_ca: str

    @property
    def config_id(self) -> bytes:
        """The CONFIGID that an enclave bound to this file has, 64 bytes."""
        return hashlib.sha256(self.text.encode()).digest().ljust(64, b"\0")


def parse(raw: bytes) -> InitData:
    """Raises Permanent(AGENT_INIT_DATA)."""
    if len(raw) > MAX_BYTES:
        raise _malformed(f"at most {MAX_BYTES} bytes", f"{len(raw)} bytes")
    try:
        text = raw.decode()
        outer = tomllib.loads(text)
        inner = tomllib.loads(_text(outer.get("data"), MEMBER))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        raise _malformed("TOML in UTF-8", str(error)[:500]) from error
    if (outer.get("version"), outer.get("algorithm")) != ("0.1.0", "sha256"):
        raise _malformed(
            'version "0.1.0", algorithm "sha256"', f"{outer.get('version')}, {outer.get('algorithm')}"[:500]
        )
    if unknown := sorted(inner.keys() - MEMBERS):
        raise _malformed(f"{', '.join(sorted(MEMBERS))} and nothing else", f"{unknown[0]!r} in {MEMBER}"[:500])
    return InitData(
        text=text,
        kbs_url=_text(inner, "kbs_url"),
        kbs_ca=_text(inner, "kbs_ca"),
        image_policy=_text(inner, "image_policy"),
        launch_policy=_text(inner, "launch_policy"),
        registry_ca=_text(inner, "registry_ca") if "registry_ca" in inner else "",
    )


def _text(table: Any, name: str) -> str:
    value = table.get(name) if isinstance(table, dict) else None
    if not isinstance(value, str) or not value:
        raise _malformed(f'a string "{name}"', type(value).__name__)
    return value


def _malformed(expected: str, got: str) -> Permanent:
    return Permanent(
        Code.AGENT_INIT_DATA,
        "the init-data cannot be used",
        expected=expected,
        got=got,
        advice="`enclave-cc publish` and `enclave-cc up` write one; see workers/enclave/init_data.py for its form",
    )
