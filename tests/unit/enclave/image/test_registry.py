"""A registry as it fails: away, cut, altered, asking for accounts. Every class of failure has its code."""

from __future__ import annotations

import os
import socket

import pytest

from orchestrator.faults import Code, Fault, Permanent, Temporary
from tests.simulators import oci
from tests.simulators.wayward_registry import WaywardRegistry
from workers.enclave.image.credentials import Credentials
from workers.enclave.image.manifest import Descriptor
from workers.enclave.image.reference import Reference, parse_reference
from workers.enclave.image.registry import Registry

BLOB = os.urandom(1_000_000)
NAME = oci.digest(BLOB)
DESCRIPTOR = Descriptor("application/octet-stream", NAME, len(BLOB))


@pytest.fixture
def held(wayward: WaywardRegistry, app: oci.OciImage) -> Reference:
    """The reference of an image beside which BLOB lies."""
    return parse_reference(wayward.put("shop/app", app, "v1", more=oci.OciImage(b"{}", {NAME: BLOB})))


def blob(registry: Registry, reference: Reference) -> bytes:
    with registry.open_blob(reference, DESCRIPTOR) as stream:
        return b"".join(iter(lambda: stream.read(100_000), b""))


def refused(registry: Registry, reference: Reference) -> Fault:
    with pytest.raises(Fault) as raised:
        blob(registry, reference)
    return raised.value


class TestManifests:
    def test_a_tag_gives_the_manifest_and_its_digest(self, registry, held, app) -> None:
        assert registry.manifest(held) == (app.manifest, app.digest)

    def test_a_manifest_by_digest_must_have_it(self, registry, wayward, held, app) -> None:
        wayward.faults.altered[app.digest] = app.manifest + b" "
        with pytest.raises(Permanent) as raised:
            registry.manifest(held.pinned(app.digest))
        assert raised.value.code is Code.IMAGE_ALTERED
        assert raised.value.diagnosis.expected == app.digest

    def test_what_is_not_there_is_not_found(self, registry, held) -> None:
        with pytest.raises(Permanent) as raised:
            registry.manifest(held.tagged("v2"))
        assert raised.value.code is Code.IMAGE_NOT_FOUND

    def test_an_unreachable_registry_is_away(self, registry) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Temporary) as raised:
            registry.manifest(parse_reference(f"{address}/app:v1"))
        assert raised.value.code is Code.IMAGE_REGISTRY_AWAY

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_an_overloaded_registry_is_away_for_now(self, registry, wayward, held, status) -> None:
        wayward.faults.status["/v2/shop/app/manifests/v1"] = [status]
        with pytest.raises(Temporary) as raised:
            registry.manifest(held)
        assert raised.value.code is Code.IMAGE_REGISTRY_AWAY
        assert "slow down" in raised.value.diagnosis.got

    def test_a_manifest_longer_than_any_is_malformed(self, registry, wayward, held) -> None:
        wayward.put_manifest("shop/app", b" " * (5 << 20), "v1")
        with pytest.raises(Permanent) as raised:
            registry.manifest(held)
        assert raised.value.code is Code.IMAGE_MALFORMED

    def test_plain_http_is_refused_where_it_was_not_asked_for(self, wayward, held) -> None:
        with pytest.raises(Temporary):  # it speaks no TLS
            Registry().manifest(held)
        assert wayward.asked == []

    def test_an_index_leads_to_the_image_of_this_machine(self, registry, wayward, app) -> None:
        both = oci.index({"arm64": oci.image([oci.tar({"a": b"arm"})]), "amd64": app})
        reference = parse_reference(wayward.put("shop/both", both, "v1", more=app))
        found = registry.image(reference)
        assert (found.digest, found.index_digest) == (app.digest, both.digest)

    def test_an_index_without_this_machine_is_not_found_and_says_what_there_is(self, registry, wayward, app) -> None:
        reference = parse_reference(wayward.put("shop/both", oci.index({"arm64": app, "s390x": app}), "v1"))
        with pytest.raises(Permanent) as raised:
            registry.image(reference)
        assert raised.value.code is Code.IMAGE_NOT_FOUND
        assert raised.value.diagnosis.got == "linux/arm64, linux/s390x"

    def test_an_index_in_an_index_is_malformed(self, registry, wayward, app) -> None:
        inner = oci.index({"amd64": app})
        reference = parse_reference(wayward.put("shop/both", oci.index({"amd64": inner}), "v1", more=inner))
        with pytest.raises(Permanent) as raised:
            registry.image(reference)
        assert raised.value.code is Code.IMAGE_MALFORMED


class TestBlobs:
    def test_a_blob_comes_whole(self, registry, held) -> None:
        assert blob(registry, held) == BLOB

    def test_a_broken_connection_is_taken_up_where_it_broke(self, registry, wayward, held) -> None:
        wayward.faults.cut_after[NAME] = [300_000, 300_000]
        assert blob(registry, held) == BLOB
        ranges = [headers.get("Range") for headers in wayward.requests_for(NAME)]
        assert ranges == [None, "bytes=300000-", "bytes=600000-"]

    def test_a_registry_without_ranges_is_read_again_from_the_start(self, registry, wayward, held) -> None:
        wayward.faults.cut_after[NAME] = [300_000]
        wayward.faults.ignores_range = True
        assert blob(registry, held) == BLOB

    def test_a_pause_in_service_is_waited_for(self, registry, wayward, held) -> None:
        wayward.faults.status[f"/v2/shop/app/blobs/{NAME}"] = [503, 503]
        assert blob(registry, held) == BLOB

    def test_a_connection_that_always_breaks_at_the_same_place_is_truncated_and_temporary(
        self, registry, wayward, held
    ) -> None:
        wayward.faults.cut_after[NAME] = [300_000, *[0] * 20]
        found = refused(registry, held)
        assert (found.code, type(found)) == (Code.IMAGE_TRUNCATED, Temporary)
        assert found.diagnosis.got == "300000 bytes"
        assert len(wayward.requests_for(NAME)) == 4

    def test_a_blob_that_the_registry_says_is_shorter_is_truncated_for_good(self, registry, wayward, held) -> None:
        wayward.faults.announced[NAME] = 999_999
        found = refused(registry, held)
        assert (found.code, type(found)) == (Code.IMAGE_TRUNCATED, Permanent)
        assert found.diagnosis.expected == "1000000 bytes"
        assert found.diagnosis.got == "999999 bytes"

    def test_a_range_beyond_the_registrys_end_is_truncated_for_good(self, registry, wayward, held) -> None:
        wayward.faults.cut_after[NAME] = [500_000]
        with registry.open_blob(held, DESCRIPTOR) as stream:
            stream.read(500_000)
            wayward.faults.announced[NAME] = 400_000
            with pytest.raises(Permanent) as raised:
                stream.read(1)
        assert raised.value.code is Code.IMAGE_TRUNCATED

    def test_another_range_than_asked_for_is_altered(self, registry, wayward, held) -> None:
        wayward.faults.cut_after[NAME] = [300_000]
        wayward.faults.wrong_range = True
        found = refused(registry, held)
        assert (found.code, type(found)) == (Code.IMAGE_ALTERED, Permanent)

    def test_no_more_bytes_come_out_than_the_descriptor_says(self, registry, wayward, held) -> None:
        wayward.faults.altered[NAME] = BLOB + b"more"
        assert blob(registry, held) == BLOB

    def test_a_registry_that_is_away_all_the_time_is_away(self, registry, wayward, held) -> None:
        wayward.faults.status[f"/v2/shop/app/blobs/{NAME}"] = [503] * 20
        found = refused(registry, held)
        assert (found.code, type(found)) == (Code.IMAGE_REGISTRY_AWAY, Temporary)

    def test_an_absent_blob_is_not_found(self, registry, held) -> None:
        absent = Descriptor("a/b", "sha256:" + "0" * 64, 10)
        with pytest.raises(Permanent) as raised:
            registry.open_blob(held, absent).read(1)
        assert raised.value.code is Code.IMAGE_NOT_FOUND

    def test_a_small_blob_must_have_its_digest(self, registry, wayward, held) -> None:
        wayward.faults.altered[NAME] = bytes(len(BLOB))
        with pytest.raises(Permanent) as raised:
            registry.blob(held, DESCRIPTOR, limit=1 << 20, what="configuration")
        assert raised.value.code is Code.IMAGE_ALTERED

    def test_a_small_blob_is_bounded_before_it_is_read(self, registry, wayward, held) -> None:
        with pytest.raises(Permanent) as raised:
            registry.blob(held, DESCRIPTOR, limit=1000, what="configuration")
        assert raised.value.code is Code.IMAGE_MALFORMED
        assert wayward.requests_for(NAME) == []


class TestAccounts:
    def test_a_bearer_token_is_fetched_once_and_used(self, registry, wayward, held, app) -> None:
        wayward.faults.token = "let-me-in"
        assert registry.manifest(held)[1] == app.digest
        assert blob(registry, held) == BLOB
        tokens = [path for _, path, _ in wayward.asked if path.startswith("/token")]
        assert tokens == ["/token?service=wayward&scope=repository%3Ashop%2Fapp%3Apull"]

    def test_the_account_goes_to_the_token_server_of_its_registry(self, wayward, held, app) -> None:
        wayward.faults.token = "let-me-in"
        wayward.faults.account = ("user", "secret:with:colons")
        ours = Credentials(wayward.address, "user", "secret:with:colons")
        registry = Registry(credentials=ours, plain_http_loopback=True)
        assert registry.manifest(held)[1] == app.digest

    def test_the_account_of_another_registry_is_not_sent(self, wayward, held) -> None:
        wayward.faults.token = "let-me-in"
        wayward.faults.account = ("user", "secret")
        registry = Registry(credentials=Credentials("other.example", "user", "secret"), plain_http_loopback=True)
        with pytest.raises(Permanent) as raised:
            registry.manifest(held)
        assert raised.value.code is Code.IMAGE_NOT_FOUND
        assert all("Basic" not in headers.get("Authorization", "") for _, _, headers in wayward.asked)

    def test_a_wrong_account_is_refused_and_never_told(self, wayward, held) -> None:
        wayward.faults.token = "let-me-in"
        wayward.faults.account = ("user", "right")
        registry = Registry(credentials=Credentials(wayward.address, "user", "wrong"), plain_http_loopback=True)
        with pytest.raises(Permanent) as raised:
            registry.manifest(held)
        assert raised.value.code is Code.IMAGE_NOT_FOUND
        assert "wrong" not in raised.value.diagnostics()

    def test_a_token_server_without_tls_is_refused(self, registry, wayward, held) -> None:
        wayward.faults.token = "let-me-in"
        wayward.faults.realm = "http://tokens.example/token"
        with pytest.raises(Permanent) as raised:
            registry.manifest(held)
        assert "https" in raised.value.diagnosis.message

    def test_a_token_does_not_follow_a_redirect_to_another_host(self, registry, wayward, held) -> None:
        with WaywardRegistry() as storage:
            storage.put("shop/app", oci.OciImage(b"{}", {NAME: BLOB}))
            wayward.faults.token = "let-me-in"
            wayward.faults.redirect_blobs_to = f"http://{storage.address}"
            assert blob(registry, held) == BLOB
            assert "Authorization" not in storage.requests_for(NAME)[0]

    def test_a_circle_of_redirects_ends(self, registry, wayward, held) -> None:
        wayward.faults.redirect_blobs_to = f"http://{wayward.address}"
        found = refused(registry, held)
        assert found.code is Code.IMAGE_REGISTRY_AWAY

    def test_a_redirect_to_plain_http_elsewhere_is_refused(self, registry, wayward, held) -> None:
        wayward.faults.redirect_blobs_to = "http://storage.example"
        found = refused(registry, held)
        assert type(found) is Permanent
        assert "https" in found.diagnosis.message
