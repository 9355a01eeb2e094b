"""What an image was made of, as SPDX 2.3 in JSON: every package, and which part of the image it is in.

Zone: owner. May import: `deploy.payload.{origin,oci_layout}`, the standard library.
Source: the SPDX specification 2.3, and its JSON schema.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from deploy.payload.oci_layout import SOURCE_DATE_EPOCH
from deploy.payload.origin import OWN, Origin

_NONE: Final = "NOASSERTION"


def render(version: str, parts: Mapping[str, frozenset[Origin]], *, subject: str = "payload") -> bytes:
    """The document. `parts`: of each part of the image (agent, boot, host) what its files came from."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(SOURCE_DATE_EPOCH))
    every = sorted(set().union(*parts.values()))
    packages = [_part(subject, version), *(_part(name, version) for name in sorted(parts))]
    packages += [_package(origin) for origin in every]
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", _part_id(subject))]
    for name in sorted(parts):
        relations.append((_part_id(subject), "CONTAINS", _part_id(name)))
        relations += [(_part_id(name), "CONTAINS", _id(origin)) for origin in sorted(parts[name])]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{OWN}-{subject}-{version}",
        "creationInfo": {"created": created, "creators": [f"Tool: {OWN}-{version}"]},
        "packages": packages,
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
            for one, kind, other in relations
        ],
    }
    # One name for each content, as the specification asks, and the same for the same.
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    document["documentNamespace"] = f"urn:{OWN}:sbom:sha256:{digest}"
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


def _part(name: str, version: str) -> dict[str, object]:
    return {
        "SPDXID": _part_id(name),
        "name": f"{OWN}/{name}",
        "versionInfo": version,
        "downloadLocation": _NONE,
        "filesAnalyzed": False,
    }


def _package(origin: Origin) -> dict[str, object]:
    place = f"deb/debian/{origin.name}" if origin.kind == "deb" else f"pypi/{origin.name.lower().replace('_', '-')}"
    described: dict[str, object] = {
        "SPDXID": _id(origin),
        "name": origin.name,
        "versionInfo": origin.version,
        "downloadLocation": _NONE,
        "filesAnalyzed": False,
        "licenseConcluded": _NONE,
        "licenseDeclared": origin.licence or _NONE,
        "copyrightText": _NONE,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": f"pkg:{place}@{quote(origin.version, safe='')}",
            }
        ],
    }
    return described | ({"licenseComments": f"The package says: {origin.said}"} if origin.said else {})


def _part_id(name: str) -> str:
    return f"SPDXRef-Part-{name}"


def _id(origin: Origin) -> str:
    """Of letters, digits, dots and hyphens alone."""
    return f"SPDXRef-{origin.kind}-{re.sub(r'[^A-Za-z0-9.-]', '-', origin.name)}"
