"""An image's name, as containerd normalises it (github.com/distribution/reference; CRI's ParseDockerRef).

    name[:tag][@digest]      name = [host[:port]/]path

- No host (the first part has no '.', no ':', no capital and is not `localhost`): `docker.io`, and a path of one part
  gets `library/` before it. `index.docker.io` is `docker.io`.
- Neither tag nor digest: `:latest`. Both: the tag is dropped, because the digest says which.
- Digests are sha256 only. Hosts compare byte by byte; a path is lower case by grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from orchestrator.faults import Code, Permanent

LONGEST_NAME: Final = 255
"""Characters of host and path together; the limit of the reference grammar."""

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]{{2,45}}\])(?::[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"

_HOST_RULE: Final = re.compile(_HOST, re.ASCII)
_PATH_RULE: Final = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_TAG_RULE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
DIGEST_RULE: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_BARE_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised name. `parse_reference` sets exactly one of `tag` and `digest`; `parse_name` may leave both out."""

    host: str
    path: str
    tag: str | None
    digest: str | None

    @property
    def repository(self) -> str:
        """`host/path`: what a policy's rule and a signature's identity name."""
        return f"{self.host}/{self.path}"

    @property
    def registry(self) -> str:
        """The host to connect to; Docker's hub answers under another name than its images carry."""
        return "registry-1.docker.io" if self.host == "docker.io" else self.host

    def pinned(self, digest: str) -> Reference:
        """The same repository, by digest. `digest` must be one this process computed or verified."""
        return replace(self, tag=None, digest=digest)

    def tagged(self, tag: str) -> Reference:
        """The same repository, by tag."""
        return replace(self, tag=tag, digest=None)

    def __str__(self) -> str:
        return self.repository + (f"@{self.digest}" if self.digest else f":{self.tag}" if self.tag else "")


def parse_reference(text: str) -> Reference:
    """Parse and normalise `text` as what to pull.

    Raises:
        Permanent: IMAGE_REFERENCE, naming the part that breaks the grammar.
    """
    name = parse_name(text)
    return name if name.digest or name.tag else name.tagged("latest")


def parse_name(text: str) -> Reference:
    """Parse and normalise `text`, adding no tag: for signatures and policies, where a bare name means the repository.

    Raises:
        Permanent: IMAGE_REFERENCE, as `parse_reference`.
    """
    if _BARE_HEX.fullmatch(text):
        raise _refused(text, "a name", "64 hex digits, which is an image's id")
    rest, at, digest = text.partition("@")
    if at and not DIGEST_RULE.fullmatch(digest):
        raise _refused(text, "a digest sha256:<64 lower-case hex digits>", digest)
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:  # the last colon is a port's, or there is none
        name, colon, tag = rest, "", ""
    if colon and not _TAG_RULE.fullmatch(tag):
        raise _refused(text, "a tag of letters, digits, '_', '.', '-', at most 128", tag)
    host, path = _split_host(name)
    if not _HOST_RULE.fullmatch(host):
        raise _refused(text, "a host name with an optional port", host)
    if not _PATH_RULE.fullmatch(path):
        raise _refused(text, "a path of lower-case letters and digits, joined by '.', '_', '__', '-' and '/'", path)
    if len(host) + 1 + len(path) > LONGEST_NAME:
        raise _refused(text, f"a name of at most {LONGEST_NAME} characters", f"{len(host) + 1 + len(path)} characters")
    if digest:
        return Reference(host, path, None, digest)
    return Reference(host, path, tag or None, None)


def _split_host(name: str) -> tuple[str, str]:
    """The host and the path by distribution's rule; see the module's docstring."""
    first, slash, rest = name.partition("/")
    named = slash and (any(mark in first for mark in ".:") or first == "localhost" or first.lower() != first)
    host, path = (first, rest) if named else ("docker.io", name)
    if host == "index.docker.io":
        host = "docker.io"
    if host == "docker.io" and "/" not in path:
        path = f"library/{path}"
    return host, path


def _refused(text: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.IMAGE_REFERENCE,
        f"not an image reference: {text[:300]!r}",
        expected=expected,
        got=repr(got[:300]),
        advice="write it as host[:port]/path:tag or host[:port]/path@sha256:<digest>",
    )
