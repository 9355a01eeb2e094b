"""docker-registry's configuration, and pushing an OCI layout into it.

Zone: host: it holds ciphertext and plain public images alike. May import: `deploy.local.{authority,layout}`, skopeo.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from deploy.local.authority import ServerFiles
from deploy.local.layout import Layout
from orchestrator.faults import Code, Temporary


def configuration(layout: Layout, files: ServerFiles) -> str:
    """The text of `registry.yml` (YAML, of which JSON is a part). TLS only, on the loopback address."""
    document = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(layout.root / "registry")},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {
            "addr": layout.registry_host,
            "tls": {"certificate": str(files.certificate), "key": str(files.key), "minimumtls": "tls1.2"},
        },
    }
    return json.dumps(document, indent=1)


def push(layout: Layout, image: Path, name: str) -> str:
    """Copy the OCI layout folder `image` to `name` (`repository:tag`); return the reference a kubelet would use."""
    reference = f"{layout.registry_host}/{name}"
    with tempfile.TemporaryDirectory() as trusted:
        (Path(trusted) / "ca.crt").write_bytes(layout.ca.read_bytes())
        copied = subprocess.run(
            ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-cert-dir", trusted]
            + [f"oci:{image}", f"docker://{reference}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    if copied.returncode:
        raise Temporary(
            Code.IMAGE_REGISTRY_AWAY,
            f"the image {name} could not be pushed",
            expected=f"the registry at {layout.registry_host} takes it",
            got=copied.stderr.strip()[-500:],
            advice="see whether the registry runs (`enclave-cc status`)",
        )
    return reference
