"""A registry account, and the docker authentication document that accounts come in.

The document is the one `docker login` writes and Kubernetes stores as `.dockerconfigjson`:
`{"auths": {"host[/path]": {"auth": "<base64 of user:password>"}}}`. Helpers (`credHelpers`, `credsStore`) run programs
and mean nothing inside an enclave: they are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code
from workers.enclave.image.document import parse_object

if TYPE_CHECKING:
    from workers.enclave.image.reference import Reference

_LONGEST: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """One account at one registry host. Sent to that host over TLS, and to the token server it names; nowhere else."""

    host: str
    username: str
    password: str = field(repr=False)


def find_credentials(document: bytes, reference: Reference) -> Credentials | None:
    """The account for `reference`: the entry with the longest matching path, then the host's; None where none matches.

    Raises:
        Permanent: INPUT, when the document is no docker authentication document. No account stands in the fault.
    """
    auths = parse_object(document, what="registry authentication document", code=Code.INPUT, limit=_LONGEST).get(
        "auths"
    )
    best, found = -1, None
    for key, entry in auths.members().items() if auths else ():
        scope = _scope(key)
        if len(scope) > best and f"{reference.repository}/".startswith(f"{scope}/"):
            best, found = len(scope), entry
    if found is None or (auth := found.get("auth")) is None:
        return None
    username, colon, password = auth.octets().decode("utf-8", errors="replace").partition(":")
    if not colon:
        raise auth.malformed("base64 of user:password", "no colon in it")
    return Credentials(reference.host, username, password)


def _scope(key: str) -> str:
    """An entry's key without scheme and API path: old docker wrote `https://index.docker.io/v1/` for its hub."""
    scope = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    scope = scope.removesuffix("/v1").removesuffix("/v2")
    return "docker.io" if scope in {"index.docker.io", "registry-1.docker.io"} else scope
