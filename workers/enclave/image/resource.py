"""A key broker's resource URI, in the one spelling this project uses: `kbs:///repository/type/tag`.

The CoCo form is `kbs://[host[:port]]/repository/type/tag`. Which broker answers is bound by init-data and never taken
from an image or a policy, so a host in the URI is dropped, as Confidential Containers' own client drops it. A query
or a plugin scheme (`kbs+x://`) is refused: nothing here has a use for one.

Segments: `[a-zA-Z0-9_-][a-zA-Z0-9_.-]*`, exactly three (Trustee, kbs resource backend).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from orchestrator.faults import Code, Permanent

GetResource = Callable[[str], bytes]
"""What asks the key broker: canonical URI -> the resource's bytes. Raises KEY_UNKNOWN, KEY_DENIED or KEY_KBS_AWAY."""

_SEGMENT: Final = r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,127}"
_URI: Final = re.compile(rf"kbs://[a-zA-Z0-9.:\[\]-]{{0,255}}/({_SEGMENT})/({_SEGMENT})/({_SEGMENT})", re.ASCII)


def resource_uri(text: str, *, code: Code = Code.KEY_MALFORMED) -> str:
    """The canonical spelling of `text`.

    Raises:
        Permanent: `code`, when it is not such a URI. The text is public and stands in the fault, cut to 200 characters.
    """
    found = _URI.fullmatch(text)
    if found is None:
        raise Permanent(
            code,
            "not a key broker's resource URI",
            expected="kbs:///repository/type/tag",
            got=repr(text[:200]),
            advice="each of the three parts is letters, digits, '_', '-' and inner '.'",
        )
    return "kbs:///" + "/".join(found.groups())
