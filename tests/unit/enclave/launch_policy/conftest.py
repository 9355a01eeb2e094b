"""What the tests of the launch policy share: a policy of one rule, a proposal as containerd makes it, the image."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.faults import Code, Permanent
from workers.enclave.image.manifest import ImageConfig
from workers.enclave.image.reference import Reference, parse_reference
from workers.enclave.launch_policy.approved import ApprovedProcess
from workers.enclave.launch_policy.document import LaunchPolicy
from workers.enclave.launch_policy.judge import judge_process

DIGEST = "sha256:" + "ab" * 32
REPOSITORY = "registry.example/shop/app"
IMAGE = parse_reference(f"{REPOSITORY}@{DIGEST}")
CONFIG = ImageConfig(
    "amd64",
    "linux",
    (),
    env=("PATH=/bin", "MODE=fast"),
    entrypoint=("/app",),
    cmd=("serve",),
    working_dir="/srv",
    user="1000",
)
MEASUREMENT = "cd" * 32

# As containerd 1.6's CRI writes it for a pod's container, shortened where nothing is judged.
PROPOSED: dict[str, Any] = {
    "ociVersion": "1.0.2-dev",
    "process": {
        "user": {"uid": 1000, "gid": 0, "additionalGids": [0]},
        "args": ["/app", "serve"],
        "env": [
            "PATH=/bin",
            "HOSTNAME=web-0",
            "MODE=fast",
            "KUBERNETES_SERVICE_HOST=10.96.0.1",
            "WEB_PORT_80_TCP_ADDR=10.0.0.1",
        ],
        "cwd": "/srv",
        "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]},
        "apparmorProfile": "cri-containerd.apparmor.d",
        "oomScoreAdj": 1000,
    },
    "root": {"path": "rootfs"},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/dev/shm", "type": "bind", "source": "/run/shm", "options": ["rbind"]},
        {"destination": "/etc/hosts", "type": "bind", "source": "/var/lib/hosts", "options": ["rbind", "rw"]},
        {"destination": "/etc/resolv.conf", "type": "bind", "source": "/var/lib/resolv", "options": ["rbind", "ro"]},
    ],
    "annotations": {"io.kubernetes.cri.container-type": "container"},
    "linux": {"namespaces": [{"type": "pid"}], "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}, "resources": {}},
}

Judge = Callable[..., ApprovedProcess]


def proposal(**process: object) -> dict[str, Any]:
    """The usual proposal with some members of `process` changed; None removes one."""
    made = copy.deepcopy(PROPOSED)
    made["process"] |= process
    made["process"] = {name: value for name, value in made["process"].items() if value is not None}
    return made


def with_mount(destination: str, *, kind: str = "bind", options: list[str] | None = None) -> dict[str, Any]:
    made = copy.deepcopy(PROPOSED)
    options = ["rbind", "rw"] if options is None else options
    made["mounts"].append({"destination": destination, "type": kind, "source": "/host/dir", "options": options})
    return made


def policy(*rules: dict[str, object], secrets: list[dict[str, object]] | None = None) -> LaunchPolicy:
    document = {"version": 1, "boot_measurements": [MEASUREMENT], "rules": list(rules), "secrets": secrets or []}
    return LaunchPolicy.parse(json.dumps(document).encode())


@pytest.fixture
def judge() -> Judge:
    """Judge a proposal under one rule for the image, whose members are given; `secrets` go beside it."""

    def judged(
        proposed: dict[str, Any] | None = None,
        *,
        image: Reference = IMAGE,
        config: ImageConfig = CONFIG,
        secrets: list[dict[str, object]] | None = None,
        **rule: object,
    ) -> ApprovedProcess:
        made = policy({"name": "web", "image": REPOSITORY} | rule, secrets=secrets)
        return judge_process(made, image, config, PROPOSED if proposed is None else proposed)

    return judged


@pytest.fixture
def denied(judge: Judge) -> Callable[..., Permanent]:
    """As `judge`, for what must be denied: the fault."""

    def refused(*args: Any, **named: Any) -> Permanent:
        with pytest.raises(Permanent) as raised:
            judge(*args, **named)
        assert raised.value.code is Code.CONFIG_PROCESS_DENIED
        assert raised.value.diagnosis.expected
        assert raised.value.diagnosis.got
        return raised.value

    return refused
