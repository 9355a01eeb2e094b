"""The one way this package asks the key broker for anything, and how a document names what to ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.faults import Permanent
from workers.enclave.kbs.uri import ResourceUri

if TYPE_CHECKING:
    from workers.enclave.image.document import Node

GetResource = Callable[[str], bytes]
"""`kbs:///repository/type/tag` -> the resource's bytes. Raises KEY_UNKNOWN, KEY_DENIED or KEY_KBS_AWAY."""


def resource_uri(node: Node) -> str:
    """The URI that a member of a document holds.

    Raises:
        Permanent: the document's code, when it is none.
    """
    text = node.text(longest=512)
    try:
        return str(ResourceUri.parse(text))
    except Permanent as fault:
        raise node.malformed(fault.diagnosis.expected, ascii(text[:200])) from None
