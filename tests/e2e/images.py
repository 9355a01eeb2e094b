"""Small OCI images built here: a pause image from catatonit, others from busybox. No network, no image tool."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAUSE = "localhost/enclave-cc/pause:1"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ENCRYPTED_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as a registry stores it; `diff_id` is the digest of its plaintext tar."""

    media_type: str
    blob: bytes
    diff_id: str


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest and every blob it names, by digest."""

    manifest: bytes
    blobs: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        return digest(self.manifest)


def digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def tar(files: Mapping[str, bytes], executable: Sequence[str] = (), links: Mapping[str, str] | None = None) -> bytes:
    """A layer's tar; `links` are symbolic, name to target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for folder in sorted({parent for name in files for parent in _parents(name)}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(body), 0o755 if name in executable else 0o644
            archive.addfile(entry, io.BytesIO(body))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            archive.addfile(entry)
    return out.getvalue()


def plain(tarball: bytes) -> Layer:
    return Layer(LAYER, tarball, digest(tarball))


def image(layers: Sequence[Layer], process: Mapping[str, object]) -> Image:
    """`process` is the image configuration's `config`: Entrypoint, Cmd, Env, User."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": process,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, config),
            "layers": [_descriptor(layer.media_type, layer.blob) for layer in layers],
        }
    ).encode()
    return Image(manifest, {digest(blob): blob for blob in (config, *(layer.blob for layer in layers))})


def busybox(name: str = "sh") -> bytes:
    """A layer with a static busybox that is `/bin/sh`, `sleep`, `cat` and `echo`."""
    binary = Path("/bin/busybox").read_bytes()
    names = ("sh", "sleep", "cat", "echo", "id", "ls", "env")
    return tar({"bin/busybox": binary}, ["bin/busybox"], {f"bin/{link}": "busybox" for link in (name, *names)})


def pause_archive(path: Path) -> Path:
    """An archive for `ctr images import` of the image that containerd is configured to make sandboxes of."""
    init = tar({"pause": Path("/usr/bin/catatonit").read_bytes()}, ["pause"])
    write_archive(path, image([plain(init)], {"Entrypoint": ["/pause", "-P"]}), PAUSE)
    return path


def write_archive(path: Path, made: Image, reference: str) -> None:
    """An OCI image layout in a tar, named so that containerd imports it as `reference`."""
    descriptor = _descriptor(MANIFEST, made.manifest) | {"annotations": {"io.containerd.image.name": reference}}
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
    for name, blob in {**made.blobs, made.digest: made.manifest}.items():
        files[f"blobs/{name.replace(':', '/')}"] = blob
    path.write_bytes(tar(files))


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}


def _parents(name: str) -> list[str]:
    return [str(parent) for parent in Path(name).parents if str(parent) != "."]
