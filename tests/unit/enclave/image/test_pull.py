"""From a name to proved layers, and every way in which an image is refused. Each test is named after its failure."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from orchestrator.faults import Code, Fault, Permanent
from tests.simulators import oci
from tests.unit.enclave.image.conftest import KID, Owner
from workers.enclave.image.pull import ImagePlan

ACCEPT = {"type": "insecureAcceptAnything"}


def tars(plan: ImagePlan) -> list[bytes]:
    read = []
    for reader in plan.layers():
        read.append(reader.read())
        reader.verify()
    return read


def code(owner: Owner, reference: str, *requirements: dict[str, object]) -> Code:
    with pytest.raises(Fault) as refused:
        tars(owner.resolve(reference, *requirements))
    assert refused.value.diagnosis.expected or refused.value.code is Code.KEY_UNKNOWN
    return refused.value.code


class TestAdmitted:
    def test_an_encrypted_and_signed_image_gives_its_tars(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        plan = owner.resolve(owner.publish(sealed))
        assert plan.manifest_digest == sealed.digest
        assert str(plan.reference) == f"{owner.repository}@{sealed.digest}"
        assert plan.key_ids == (KID,)
        assert plan.config.argv == ("/bin/app",)
        assert plan.verdict.policy_id == owner.policy().policy_id
        assert plan.verdict.rule == f"docker {owner.repository}: sigstoreSigned"
        assert plan.verdict.key_fingerprint.startswith("sha256:")
        assert str(plan.verdict) == f"admitted by {plan.verdict.rule} under key {plan.verdict.key_fingerprint}"
        assert tars(plan) == list(app.tars)
        assert owner.broker.asked == [KID]

    @pytest.mark.parametrize(
        "key", [rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()], ids=["rsa", "ed25519"]
    )
    def test_by_a_signature_of_another_kind_of_key(self, owner, app, key) -> None:
        sealed = owner.encrypt(app)
        owner.sign(sealed.digest, key=key)
        reference = owner.publish(sealed, sign=False)
        assert owner.resolve(reference, {"type": "sigstoreSigned", "keyData": oci.public_pem(key)})

    def test_by_a_key_that_lies_at_the_broker(self, owner, app) -> None:
        owner.broker.resources["kbs:///default/cosign/pub"] = oci.public_pem(owner.key).encode()
        reference = owner.publish(owner.encrypt(app))
        assert owner.resolve(reference, {"type": "sigstoreSigned", "keyPath": "kbs:///default/cosign/pub"})

    def test_by_one_of_several_keys(self, owner, app) -> None:
        other = ec.generate_private_key(ec.SECP256R1())
        reference = owner.publish(owner.encrypt(app))
        keys = [oci.public_pem(other), oci.public_pem(owner.key)]
        assert owner.resolve(reference, {"type": "sigstoreSigned", "keyDatas": keys})

    def test_by_one_good_signature_among_others(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        reference = owner.publish(sealed, sign=False)
        stranger = ec.generate_private_key(ec.SECP256R1())
        good, other = oci.payload(owner.repository, sealed.digest), oci.payload(owner.repository, "sha256:" + "0" * 64)
        both = oci.signatures((other, oci.sign(other, stranger)), (good, oci.sign(good, owner.key)))
        owner.put_signatures(sealed.digest, both)
        assert owner.resolve(reference)

    def test_through_an_index_whose_digest_is_signed(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        both = oci.index({"amd64": sealed, "arm64": app})
        owner.sign(both.digest)
        assert tars(owner.resolve(owner.publish(both, sign=False, more=sealed))) == list(app.tars)

    def test_unencrypted_where_the_policy_says_so(self, owner, app) -> None:
        owner.extension["unencrypted"] = [owner.repository]
        plan = owner.resolve(owner.publish(app))
        assert plan.key_ids == ()
        assert tars(plan) == list(app.tars)

    def test_an_image_by_digest_ignores_where_the_tag_points(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        owner.publish(sealed)
        owner.wayward.put("shop/app", oci.image([b""]), "v1")
        assert owner.resolve(f"{owner.repository}@{sealed.digest}").manifest_digest == sealed.digest

    def test_a_tag_that_moves_after_it_was_resolved_changes_nothing(self, owner, app) -> None:
        plan = owner.resolve(owner.publish(owner.encrypt(app)))
        owner.wayward.put("shop/app", oci.image([b"evil"]), "v1")
        assert tars(plan) == list(app.tars)


class TestRefused:
    def test_image_reference(self, owner) -> None:
        assert code(owner, "Not A Name") is Code.IMAGE_REFERENCE

    def test_image_not_found(self, owner) -> None:
        assert code(owner, f"{owner.repository}:v1") is Code.IMAGE_NOT_FOUND

    def test_image_not_found_for_this_machine(self, owner) -> None:
        arm = owner.encrypt(oci.image([oci.tar({"a": b"a"})], architecture="arm64"))
        assert code(owner, owner.publish(arm)) is Code.IMAGE_NOT_FOUND

    def test_image_altered_blob(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        reference = owner.publish(sealed)
        name = sealed.document["layers"][1]["digest"]
        flipped = bytearray(sealed.blobs[name])
        flipped[100] ^= 1
        owner.wayward.faults.altered[name] = bytes(flipped)
        assert code(owner, reference) is Code.IMAGE_ALTERED

    def test_image_altered_configuration(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        reference = owner.publish(sealed)
        name = sealed.document["config"]["digest"]
        owner.wayward.faults.altered[name] = sealed.blobs[name].replace(b"/bin/app", b"/bin/apt")
        assert code(owner, reference) is Code.IMAGE_ALTERED

    def test_image_altered_behind_a_digest(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        owner.publish(sealed)
        owner.wayward.faults.altered[sealed.digest] = app.manifest
        assert code(owner, f"{owner.repository}@{sealed.digest}") is Code.IMAGE_ALTERED

    def test_image_truncated(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        reference = owner.publish(sealed)
        layer = sealed.document["layers"][0]
        owner.wayward.faults.announced[layer["digest"]] = layer["size"] - 1
        assert code(owner, reference) is Code.IMAGE_TRUNCATED

    def test_image_malformed(self, owner, app) -> None:
        owner.wayward.put_manifest("shop/app", b'{"schemaVersion": 2}', "v1")
        assert code(owner, f"{owner.repository}:v1") is Code.IMAGE_MALFORMED

    def test_image_malformed_layer_count(self, owner, app) -> None:
        document = owner.encrypt(app).document
        document["layers"].pop()
        assert code(owner, owner.publish(owner.encrypt(app).with_manifest(document))) is Code.IMAGE_MALFORMED

    def test_image_malformed_because_it_has_more_layers_than_the_policy_admits(self, owner, app) -> None:
        owner.extension["limits"] = {"layers": 1}
        assert code(owner, owner.publish(owner.encrypt(app))) is Code.IMAGE_MALFORMED

    def test_image_malformed_because_one_layer_is_bigger_than_the_policy_admits(self, owner, app) -> None:
        owner.extension["limits"] = {"layer_bytes": 100_000}
        assert code(owner, owner.publish(owner.encrypt(app))) is Code.IMAGE_MALFORMED

    def test_image_malformed_because_all_layers_are_bigger_than_the_policy_admits(self, owner, app) -> None:
        owner.extension["limits"] = {"image_bytes": len(app.tars[0]) + 10}
        assert code(owner, owner.publish(owner.encrypt(app))) is Code.IMAGE_MALFORMED

    def test_image_not_encrypted(self, owner, app) -> None:
        assert code(owner, owner.publish(app)) is Code.IMAGE_NOT_ENCRYPTED

    def test_image_not_encrypted_in_one_layer(self, owner, app) -> None:
        half = oci.encrypted(app, owner.kek, KID, only=[1])
        assert code(owner, owner.publish(half)) is Code.IMAGE_NOT_ENCRYPTED
        assert owner.broker.asked == []

    def test_signature_missing(self, owner, app) -> None:
        assert code(owner, owner.publish(owner.encrypt(app), sign=False)) is Code.SIGNATURE_MISSING
        assert owner.broker.asked == []

    def test_signature_missing_when_its_manifest_is_empty(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        owner.put_signatures(sealed.digest, oci.signatures())
        assert code(owner, owner.publish(sealed, sign=False)) is Code.SIGNATURE_MISSING

    def test_signature_wrong_key(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        owner.sign(sealed.digest, key=ec.generate_private_key(ec.SECP256R1()))
        assert code(owner, owner.publish(sealed, sign=False)) is Code.SIGNATURE_WRONG
        assert owner.broker.asked == []

    def test_signature_wrong_digest(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        owner.sign(sealed.digest, payload=oci.payload(owner.repository, app.digest))
        assert code(owner, owner.publish(sealed, sign=False)) is Code.SIGNATURE_WRONG

    def test_signature_wrong_name(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        owner.sign(sealed.digest, payload=oci.payload(f"{owner.wayward.address}/shop/other", sealed.digest))
        assert code(owner, owner.publish(sealed, sign=False)) is Code.SIGNATURE_WRONG

    def test_signature_wrong_type(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        body = oci.payload(owner.repository, sealed.digest, "atomic container signature")
        owner.sign(sealed.digest, payload=body)
        assert code(owner, owner.publish(sealed, sign=False)) is Code.SIGNATURE_WRONG

    def test_signature_wrong_because_the_payload_was_edited(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        old = oci.payload(owner.repository, app.digest)
        new = oci.payload(owner.repository, sealed.digest)
        owner.put_signatures(sealed.digest, oci.signatures((new, oci.sign(old, owner.key))))
        assert code(owner, owner.publish(sealed, sign=False)) is Code.SIGNATURE_WRONG

    def test_signature_wrong_because_it_is_no_base64(self, owner, app) -> None:
        sealed = owner.encrypt(app)
        body = oci.payload(owner.repository, sealed.digest)
        made = oci.signatures((body, oci.sign(body, owner.key)))
        document = made.document
        document["layers"][0]["annotations"][oci.SIGNATURE] = "%%%"
        owner.put_signatures(sealed.digest, made.with_manifest(document))
        assert code(owner, owner.publish(sealed, sign=False)) is Code.SIGNATURE_WRONG

    def test_signature_policy_reject(self, owner, app) -> None:
        assert code(owner, owner.publish(owner.encrypt(app)), {"type": "reject"}) is Code.SIGNATURE_POLICY

    def test_signature_policy_by_default_for_an_image_that_no_rule_names(self, owner, app) -> None:
        reference = owner.wayward.put("shop/unknown", owner.encrypt(app), "v1")
        assert code(owner, reference) is Code.SIGNATURE_POLICY

    def test_signature_policy_gpg_is_refused_and_not_passed_over(self, owner, app) -> None:
        gpg = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/x.gpg"}
        assert code(owner, owner.publish(owner.encrypt(app)), ACCEPT, gpg) is Code.SIGNATURE_POLICY

    def test_all_requirements_of_a_rule_must_hold(self, owner, app) -> None:
        mine = {"type": "sigstoreSigned", "keyData": oci.public_pem(owner.key)}
        other = {"type": "sigstoreSigned", "keyData": oci.public_pem(ec.generate_private_key(ec.SECP256R1()))}
        assert code(owner, owner.publish(owner.encrypt(app)), mine, other) is Code.SIGNATURE_WRONG

    def test_key_unknown(self, owner, app) -> None:
        reference = owner.publish(owner.encrypt(app))
        owner.broker.resources.clear()
        assert code(owner, reference) is Code.KEY_UNKNOWN

    def test_key_malformed(self, owner, app) -> None:
        reference = owner.publish(owner.encrypt(app))
        owner.broker.resources[KID] += b"\n"
        assert code(owner, reference) is Code.KEY_MALFORMED

    def test_key_wrong(self, owner, app) -> None:
        reference = owner.publish(owner.encrypt(app))
        owner.broker.resources[KID] = bytes(32)
        assert code(owner, reference) is Code.KEY_WRONG

    def test_a_nonce_slipped_into_the_manifest_is_refused_even_where_no_signature_is_asked_for(
        self, owner, app
    ) -> None:
        document = owner.encrypt(app).document
        public = json.loads(base64.b64decode(document["layers"][0]["annotations"][oci.PUBOPTS]))
        public["cipheroptions"]["nonce"] = oci.b64(bytes(16))
        document["layers"][0]["annotations"][oci.PUBOPTS] = oci.b64(json.dumps(public).encode())
        reference = owner.publish(owner.encrypt(app).with_manifest(document), sign=False)
        assert code(owner, reference, ACCEPT) is Code.IMAGE_MALFORMED

    def test_a_bomb_is_refused(self, owner) -> None:
        owner.extension["limits"] = {"layer_bytes": 1 << 20}
        bomb = owner.encrypt(oci.image([bytes(64 << 20)]))
        assert len(gzip.compress(bytes(64 << 20))) < 1 << 20
        assert code(owner, owner.publish(bomb)) is Code.IMAGE_MALFORMED


class TestMisuse:
    def test_a_layer_that_was_not_verified_stops_the_walk(self, owner, app) -> None:
        plan = owner.resolve(owner.publish(owner.encrypt(app)))
        layers = plan.layers()
        next(layers).read()
        with pytest.raises(RuntimeError, match="verify"):
            next(layers)

    def test_a_plan_shows_no_key(self, owner, app) -> None:
        plan = owner.resolve(owner.publish(owner.encrypt(app)))
        for layer in plan.planned:
            assert layer.key is not None
            assert repr(layer.key.symmetric) not in repr(plan)

    def test_a_fault_tells_no_key(self, owner, app) -> None:
        reference = owner.publish(owner.encrypt(app))
        owner.broker.resources[KID] = b"K" * 31
        with pytest.raises(Permanent) as refused:
            owner.resolve(reference)
        assert "KKKK" not in refused.value.diagnostics()
