"""What containerd's bundle says about a container: `config.json` and the annotations that the CRI writes into it.

Peer: containerd pkg/cri/annotations; OCI runtime specification 1.0.2, config.md.
"""

from __future__ import annotations

import json
from _sha256 import sha256  # type: ignore[import-not-found]  # hashlib brings 4 MB of OpenSSL
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.bodies import MAX_HOLD_SECONDS
from orchestrator.faults import Code, Permanent

CRI: Final = "io.kubernetes.cri."
"""How the names of the CRI's own annotations begin."""
OWN: Final = "enclave-cc/"
"""How those begin that a pod's author writes for us."""
INIT_DATA_ANNOTATION: Final = "enclave-cc/init-data-sha256"
"""A pod's annotation; containerd passes it on where the runtime's `pod_annotations` admit it."""
HOLD_ANNOTATION: Final = "enclave-cc/hold-failed-seconds"
"""Another: how long what fails of this pod is kept for an operator to resume it; without it, as the node says."""
PREFETCH_ANNOTATION: Final = "enclave-cc/prefetch"
"""Another: references of the pod's images, with commas between, to be decrypted before containers ask for them."""

_MAX_PREFETCHED: Final = 16
_MAX_REFERENCE: Final = 512
_MAX_CONFIG_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """One bundle. `sandbox_id` is the container's own id for a sandbox; `image` and `name` are empty there.

    `process_sha256` is the hex SHA-256 of the proposed OCI process as canonical JSON (sorted keys, no spaces, UTF-8).
    `hold_seconds` is what the pod asks for, None where it asks for nothing.
    """

    path: Path
    is_sandbox: bool
    sandbox_id: str
    namespace: str
    pod_name: str
    pod_uid: str
    name: str
    image: str
    process_sha256: str
    init_data_sha256: str
    hold_seconds: int | None = None
    prefetch: tuple[str, ...] = ()


def read_bundle(path: Path) -> Bundle:
    """Read `path`/config.json. Raises Permanent(RUNTIME) where it is not a bundle that the CRI made."""
    try:
        with (path / "config.json").open("rb") as file:
            document = json.loads(file.read(_MAX_CONFIG_BYTES))
        annotations = _texts(document.get("annotations") or {})
        kind, sandbox = annotations[f"{CRI}container-type"], annotations[f"{CRI}sandbox-id"]
        process = json.dumps(document["process"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise _not_of_a_pod(path, f"{type(error).__name__} while reading it") from error
    if kind not in {"sandbox", "container"} or not sandbox:
        raise _not_of_a_pod(path, f"container-type {kind!r}, sandbox-id {sandbox!r}")
    return Bundle(
        path=path,
        is_sandbox=kind == "sandbox",
        sandbox_id=sandbox,
        namespace=annotations.get(f"{CRI}sandbox-namespace", ""),
        pod_name=annotations.get(f"{CRI}sandbox-name", ""),
        pod_uid=annotations.get(f"{CRI}sandbox-uid", ""),
        name=annotations.get(f"{CRI}container-name", ""),
        image=annotations.get(f"{CRI}image-name", ""),
        process_sha256=sha256(process).hexdigest(),
        init_data_sha256=annotations.get(INIT_DATA_ANNOTATION, ""),
        hold_seconds=_hold(annotations.get(HOLD_ANNOTATION, "")),
        prefetch=_references(annotations.get(PREFETCH_ANNOTATION, "")),
    )


def _texts(annotations: Mapping[str, object]) -> dict[str, str]:
    """The annotations, if each is a text that UTF-8 can hold; not all of JSON's are. Raises TypeError, ValueError."""
    texts = {}
    for name, value in annotations.items():
        if not isinstance(value, str):
            raise TypeError(f"the annotation {name[:100]!r} is no text")
        value.encode()
        texts[name] = value
    return texts


def _hold(text: str) -> int | None:
    """The annotation's seconds; None without one. Raises Permanent(INPUT): a pod that means to be held must be."""
    if not text:
        return None
    if text.isascii() and text.isdecimal() and len(text) < 5 and int(text) <= MAX_HOLD_SECONDS:
        return int(text)
    raise Permanent(
        Code.INPUT,
        f"the pod's annotation {HOLD_ANNOTATION} is not understood",
        expected=f"whole seconds up to {MAX_HOLD_SECONDS}",
        got=repr(text[:100]),
        advice="correct the annotation in the pod's specification",
    )


def _references(text: str) -> tuple[str, ...]:
    """The annotation's references, each once. Raises Permanent(INPUT) for more than a pod has use for."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if len(found) <= _MAX_PREFETCHED and all(len(reference) <= _MAX_REFERENCE for reference in found):
        return found
    raise Permanent(
        Code.INPUT,
        f"the pod's annotation {PREFETCH_ANNOTATION} is too long",
        expected=f"at most {_MAX_PREFETCHED} references of at most {_MAX_REFERENCE} characters",
        got=f"{len(found)}, the longest of {max(map(len, found))}",
        advice="name the images that are large; the others are decrypted when their containers start",
    )


def _not_of_a_pod(path: Path, got: str) -> Permanent:
    return Permanent(
        Code.RUNTIME,
        "only containers of Kubernetes pods run in enclaves",
        expected=f"{path}/config.json with the CRI's container-type and sandbox-id annotations",
        got=got,
        advice="create it through the CRI (a kubelet, crictl), not with ctr or docker",
    )
