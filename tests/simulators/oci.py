"""Small OCI images, built, encrypted and signed here from the formats' texts, without a line of what is under test.

An `OciImage` is bytes only: a test alters what it wants and hands the result to a registry or a folder.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"
PUBOPTS = "org.opencontainers.image.enc.pubopts"
KEYS = "org.opencontainers.image.enc.keys.provider.attestation-agent"
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class OciImage:
    """A manifest, what it names by digest, and the tars its layers were made of."""

    manifest: bytes
    blobs: Mapping[str, bytes]
    tars: Sequence[bytes] = field(default=())

    @property
    def digest(self) -> str:
        return digest(self.manifest)

    @property
    def document(self) -> dict:
        return json.loads(self.manifest)

    def with_manifest(self, document: Mapping[str, object]) -> OciImage:
        return replace(self, manifest=json.dumps(document).encode())


def digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of regular files, executable by all."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(body), 0o755, 1_700_000_000
            archive.addfile(entry, io.BytesIO(body))
    return out.getvalue()


def image(
    tars: Sequence[bytes],
    process: Mapping[str, object] | None = None,
    *,
    compressed: bool = True,
    architecture: str = "amd64",
) -> OciImage:
    """A plain image; `process` is the configuration's `config`."""
    layers = [gzip.compress(layer, mtime=0) if compressed else layer for layer in tars]
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": dict(process or {"Entrypoint": ["/bin/app"], "Env": ["PATH=/bin"]}),
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in tars]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": [descriptor(f"{TAR}+gzip" if compressed else TAR, layer) for layer in layers],
    }
    blobs = {digest(blob): blob for blob in (config, *layers)}
    return OciImage(json.dumps(manifest).encode(), blobs, tuple(tars))


def descriptor(media_type: str, blob: bytes) -> dict:
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}


def index(images: Mapping[str, OciImage]) -> OciImage:
    """An index, by architecture. The blobs hold the manifests too."""
    manifests = [
        {**descriptor(MANIFEST, made.manifest), "platform": {"os": "linux", "architecture": architecture}}
        for architecture, made in images.items()
    ]
    blobs = {name: blob for made in images.values() for name, blob in made.blobs.items()}
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    return OciImage(json.dumps(document).encode(), blobs)


def encrypted(plain: OciImage, kek: bytes, kid: str, *, only: Sequence[int] | None = None) -> OciImage:
    """The image with its layers (or those of the indices `only`) encrypted as ocicrypt and CoCo write them."""
    document, blobs = plain.document, dict(plain.blobs)
    for place, layer in enumerate(document["layers"]):
        if only is not None and place not in only:
            continue
        body = blobs.pop(layer["digest"])
        ciphertext, annotations = encrypted_layer(body, kek, kid)
        layer.update(descriptor(f"{layer['mediaType']}+encrypted", ciphertext), annotations=annotations)
        blobs[digest(ciphertext)] = ciphertext
    return OciImage(json.dumps(document).encode(), blobs, plain.tars)


def encrypted_layer(
    body: bytes, kek: bytes, kid: str, *, wrapped_digest: str | None = None, symmetric: bytes | None = None
) -> tuple[bytes, dict[str, str]]:
    """A layer's ciphertext and annotations. `wrapped_digest` is a lie where it is given."""
    key, nonce, iv = symmetric or os.urandom(32), os.urandom(16), os.urandom(12)
    cipher = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor()
    ciphertext = cipher.update(body) + cipher.finalize()
    mac = hmac.new(key, ciphertext, hashlib.sha256).digest()
    public = {"cipher": "AES_256_CTR_HMAC_SHA256", "hmac": b64(mac), "cipheroptions": {}}
    private = {
        "symkey": b64(key),
        "digest": wrapped_digest or digest(body),
        "cipheroptions": {"nonce": b64(nonce)},
    }
    packet = {
        "kid": kid,
        "wrapped_data": b64(AESGCM(kek).encrypt(iv, json.dumps(private).encode(), None)),
        "iv": b64(iv),
        "wrap_type": "A256GCM",
    }
    return ciphertext, {PUBOPTS: b64(json.dumps(public).encode()), KEYS: b64(json.dumps(packet).encode())}


def payload(repository: str, signed: str, kind: str = "cosign container image signature") -> bytes:
    """What cosign signs: a name and a digest."""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": signed},
        "type": kind,
    }
    return json.dumps({"critical": critical, "optional": None}).encode()


def sign(body: bytes, key: SigningKey) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(body, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(body, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(body)


def signatures(*signed: tuple[bytes, bytes]) -> OciImage:
    """A cosign signature manifest over pairs of payload and raw signature."""
    config = b"{}"
    layers = [{**descriptor(PAYLOAD, body), "annotations": {SIGNATURE: b64(raw)}} for body, raw in signed]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config), "layers": layers}
    blobs = {digest(config): config, **{digest(body): body for body, _ in signed}}
    return OciImage(json.dumps(manifest).encode(), blobs)


def public_pem(key: SigningKey) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, spki).decode()


def write_layout(made: OciImage, folder: Path, tag: str = "latest") -> Path:
    """An OCI image layout (image-spec, image-layout.md) that skopeo and umoci read."""
    (folder / "blobs/sha256").mkdir(parents=True)
    for name, blob in {**made.blobs, made.digest: made.manifest}.items():
        (folder / "blobs" / name.replace(":", "/")).write_bytes(blob)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = {**descriptor(MANIFEST, made.manifest), "annotations": {"org.opencontainers.image.ref.name": tag}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return folder


def write_archive(folder: Path, archive: Path) -> Path:
    """The tar of a layout, as `skopeo copy … oci-archive:` writes it."""
    with tarfile.open(archive, "w") as out:
        for path in sorted(folder.rglob("*")):
            out.add(path, arcname=str(path.relative_to(folder)), recursive=False)
    return archive
