"""What any store must promise; run it on one with `check_store`."""

from __future__ import annotations

from orchestrator.audit.storage import Store


def check_store(store: Store) -> None:
    """Raises AssertionError for the first promise that is not kept."""
    assert store.read("tile/0/000") is None
    store.write("tile/0/000.p/5", b"five")
    store.write("tile/0/000.p/6", b"six")
    store.write("tile/0/000", b"all")
    assert store.read("tile/0/000.p/5") == b"five"
    store.flush()
    assert store.read("tile/0/000") == b"all"
    store.write("tile/0/000", b"again")
    store.flush()
    assert store.read("tile/0/000") == b"again"
    store.remove("tile/0/000.p")
    store.remove("tile/0/000.p")
    assert store.read("tile/0/000.p/5") is None
    assert store.read("tile/0/000") == b"again"
    assert store.read("tile/0/000/x") is None
    store.replace("checkpoint", b"one")
    store.replace("checkpoint", b"two")
    assert store.read("checkpoint") == b"two"
    store.write("gone.p/1", b"x")
    store.remove("gone.p")
    store.flush()
    assert store.read("gone.p/1") is None
