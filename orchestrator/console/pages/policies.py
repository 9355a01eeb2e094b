"""Which policies judged, and what they said.

Zone: host. May import: `starlette`, `orchestrator.console`.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.console.site import Site

QUESTIONS: Final = (
    ("enclave", "Which enclaves were believed", "The key broker’s attestation policy", "attest"),
    ("image", "Which images were admitted", "The owner’s image policy, in the agent", "decrypt_image"),
    ("process", "Which processes were allowed", "The owner’s launch policy, in the agent", "deliver_config"),
)
"""What is judged in a launch, in the order of the launch: (`Judged.about`, title, by whom, in which step)."""


async def show(request: Request) -> Response:
    """GET /policies."""
    site = Site.of(request)
    found = sorted(site.index.tally.judged.values(), key=lambda judged: (bool(judged.last_refusal), -judged.count))
    sections = [(title, whose, step, [j for j in found if j.about == about]) for about, title, whose, step in QUESTIONS]
    return site.page(request, "policies.html", sections=sections)
