"""Whole stacks for tests: real nats-server, registry, key broker, containerd, runc; simulated CPU."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack
from tests.e2e.cluster import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A running stack of the module's own; afterwards nothing of it is left, or the module fails."""
    stack = Stack.create(f"test-{secrets.token_hex(3)}")
    try:
        stack.up()
        yield Cluster(stack)
    finally:
        left = stack.down()
    assert left == []
