"""A log in a bucket: the same promises, the same log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from obstore.store import MemoryStore, S3Store

from orchestrator.audit.log import Log
from orchestrator.audit.object_store import ObjectStore
from orchestrator.audit.reader import LogReader
from orchestrator.audit.verifier import Auditor, fsck
from orchestrator.faults import Code, Permanent, Temporary
from tests.simulators import s3
from tests.simulators.audit_logs import LOG_KEY, grow, policy
from tests.unit.orchestrator.audit.store_promises import check_store


@pytest.fixture
def bucket() -> Iterator[tuple[s3.Bucket, ObjectStore]]:
    with s3.serving() as (bucket, endpoint):
        yield bucket, ObjectStore(_store(endpoint))


def _store(endpoint: str) -> S3Store:
    return S3Store(
        "bucket",
        prefix="cluster/audit",
        endpoint=endpoint,
        region="us-east-1",
        skip_signature=True,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


def test_a_bucket_keeps_the_promises_of_a_store(bucket: tuple[s3.Bucket, ObjectStore]) -> None:
    check_store(bucket[1])


def test_a_store_in_memory_does_too() -> None:
    check_store(ObjectStore(MemoryStore()))


def test_a_log_in_a_bucket_goes_on_and_verifies(bucket: tuple[s3.Bucket, ObjectStore]) -> None:
    objects, store = bucket[0].objects, bucket[1]
    for size in (0, 5, 300):
        grow(Log.open_(store, LOG_KEY), size)
    assert {"cluster/audit/checkpoint", "cluster/audit/tile/0/000", "cluster/audit/tile/0/001.p/44"} <= set(objects)
    assert not any(".p/5" in name for name in objects)
    reader = LogReader(store)
    assert fsck(reader, Auditor(policy())).faults == ()
    objects["cluster/audit/tile/entries/000"] += b"x"
    assert {fault.code for fault in fsck(reader, Auditor(policy())).faults} == {Code.AUDIT_TILE}


def test_a_bucket_that_refuses_is_a_fault_that_may_pass(bucket: tuple[s3.Bucket, ObjectStore]) -> None:
    log = Log.open_(bucket[1], LOG_KEY)
    grow(log, 5)
    bucket[0].failing = True
    with pytest.raises(Temporary):
        grow(log, 9)
    bucket[0].failing = False
    assert Log.open_(bucket[1], LOG_KEY).size == 5


def test_what_names_no_store_is_refused() -> None:
    with pytest.raises(Permanent) as raised:
        ObjectStore.at("gopher://x")
    assert raised.value.code is Code.INPUT
