"""What a fault usually means: for each code of a launch, its likely causes and how to tell them apart.

Zone: any. May import: `orchestrator.{faults,launch,lifecycle}`, `orchestrator.story.values`. Pure.

The enforcing code's own words (`expected`, `got`, `advice` of the diagnosis) always come first and are never said
again here. This table adds what that code cannot see: which mistakes lead people there, the most frequent first. A
cause with a `sign` is put first where the launch itself bears that sign, and told as evident.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from orchestrator.faults import Code
from orchestrator.launch import Failure, Launch
from orchestrator.lifecycle import BY_NAME, Zone
from orchestrator.story.values import Cause

Sign: TypeAlias = Callable[[Launch, Failure], bool]


def likely_causes(launch: Launch, failure: Failure) -> tuple[Cause, ...]:
    """The causes of this failure, what the launch shows first and then the most frequent first."""
    entries = _CAUSES.get(failure.diagnosis.code, ())
    shown = [(what, tell, sign is not None and sign(launch, failure)) for what, tell, sign in entries]
    return tuple(Cause(*entry) for entry in sorted(shown, key=lambda entry: not entry[2]))


def _got(*words: str) -> Sign:
    """The enforcing code's own `got` holds one of these words."""
    return lambda _, failure: any(word in failure.diagnosis.got.lower() for word in words)


def _said(*words: str) -> Sign:
    """The fault's message holds one of these words."""
    return lambda _, failure: any(word in failure.diagnosis.message for word in words)


def _either(*signs: Sign) -> Sign:
    return lambda launch, failure: any(sign(launch, failure) for sign in signs)


def _in_zone(zone: Zone) -> Sign:
    return lambda _, failure: failure.transition in BY_NAME and BY_NAME[failure.transition].zone is zone


def _agent_was_lost(launch: Launch, _: Failure) -> bool:
    return launch.agent_lost


def _tried_again(_: Launch, failure: Failure) -> bool:
    return failure.attempt > 1


_CAUSES: Final[dict[Code, tuple[tuple[str, str, Sign | None], ...]]] = {
    Code.SANDBOX_NOT_CREATED: (
        ("the snapshotter was away", "status of the snapshotter; its log", _said("root file system")),
        ("the node's disk is full", "df on the node", _got("no space")),
        ("containerd removed the sandbox meanwhile", "containerd's log for this pod", None),
    ),
    Code.SANDBOX_HOST_NETWORK: (
        ("the pod's specification says hostNetwork: true", "kubectl get pod -o yaml", None),
        ("a mutating webhook adds it", "compare the stored pod with what was applied", None),
    ),
    Code.AGENT_NOT_STARTED: (
        ("a container of the pod listens on 61440 or 61441", "ss -ltn in the pod's network", _said("doors")),
        ("agent bundle and host worker are of different versions", "versions of both", _said("which pod")),
        ("the node is out of memory", "the kernel's log for the OOM killer", _said("ended while")),
    ),
    Code.AGENT_LOST: (
        ("the kernel killed it for memory", "the kernel's log on the node at that time", None),
        ("somebody or something removed its container", "containerd's and the host worker's log", None),
        ("the agent met a defect", "the agent's log, kept by the node for failed launches", None),
    ),
    Code.AGENT_MEASUREMENT: (
        ("the bundle on the node is not the released one", "bundle digest here against the release's", None),
        ("the bundle's file was altered", "checksum of the bundle's file on the node", _got("changed after")),
    ),
    Code.AGENT_INIT_DATA: (
        (
            "the owner published new init-data and the node still has the old",
            "the pod's init-data digest here against the owner's",
            _said("owner"),
        ),
        ("the node's configuration points to another file", "[enclave] init_data on the node", _said("asked for")),
        ("the file does not parse", "the reason under `got`", _said("cannot be used")),
        ("the host mounted another file than it measured", "treat the node as hostile until explained", None),
    ),
    Code.ATTEST_KBS_AWAY: (
        ("the key broker is down or restarting", "status of the broker; its log", _tried_again),
        ("the node's proxy does not let the broker's address through", "the host worker's allow-list", None),
        ("the broker's certificate is not under the authority in the init-data", "kbs_ca in the init-data", None),
    ),
    Code.ATTEST_NOT_LISTED: (
        ("the agent's bundle was upgraded and its measurement not yet listed", "sgx_mr_enclave at the broker", None),
        ("the node runs another bundle than the owner admitted", "bundle digest here against the release's", None),
        ("the list has the measurement in another encoding", "lower-case hex, 64 digits, at the broker", None),
    ),
    Code.ATTEST_DEBUG: (("the bundle was built or started as a debug enclave", "how the node starts agents", None),),
    Code.ATTEST_NONCE: (
        ("something between agent and broker replays answers", "proxies on the way; the broker's log", None),
        ("two brokers behind one address do not share sessions", "the load balancer's stickiness", None),
    ),
    Code.ATTEST_TOKEN: (
        ("node and broker disagree about the time", "clocks of both", _got("exp", "iat", "nbf", "expired", "clock")),
        (
            "the token's signer is not under the owner's authority",
            "kbs_ca against the broker's token signer",
            _got("signature"),
        ),
    ),
    Code.ATTEST_PROTOCOL: (
        ("the broker is an older Trustee", "its release: 0.14 or later speaks 0.4.0", _said("another version")),
        ("what answers at that address is no key broker", "kbs_url in the init-data", None),
    ),
    Code.ATTEST_QUOTE: (
        ("the simulated CPU was restarted after the enclave began", "create the pod again", _said("no simulated")),
        ("the broker does not trust the root of this platform", "the broker's anchors", _got("root key", "chain")),
        ("the quote provider of the node is not set up", "the node's quote configuration and log", None),
        ("the enclave was not started from its bundle's own mount", "how the container was made", _said("refuses")),
    ),
    Code.ATTEST_TCB: (
        ("the enclave is simulated and the owner does not allow that", "allow_simulated at the broker", None),
        ("the platform's microcode is out of date", "TCB status here; update the platform's firmware", None),
        ("the collateral at the broker is stale", "when the broker last fetched it", None),
    ),
    Code.KEY_UNKNOWN: (
        ("the image was published to another broker", "kbs here against the one `publish` wrote to", None),
        ("the key was never registered, or removed", "the broker's list of resources", None),
    ),
    Code.KEY_DENIED: (
        ("the resource policy does not name this measurement", "the broker's resource policy", None),
        ("the policy denies simulated enclaves", "the claim `simulated` of this launch", None),
    ),
    Code.KEY_KBS_AWAY: (
        ("the key broker went away after it had attested this pod", "status of the broker; its log", _tried_again),
        ("the proxy's allow-list changed", "the host worker's allow-list", None),
    ),
    Code.KEY_MALFORMED: (
        ("the key was stored as text: base64, hex or with a line end", "the resource's length: 32 bytes", None),
        ("something between agent and broker alters answers", "proxies on the way", _said("reply")),
    ),
    Code.KEY_WRONG: (
        ("the image was published again with a new key, and an old layer is served", "the tag's digest", None),
        ("the key at the broker was replaced", "the broker's log for that resource", None),
    ),
    Code.IMAGE_REGISTRY_AWAY: (
        ("the registry is down or overloaded", "status of the registry; its log", _tried_again),
        ("its certificate is not under the registry CA of the init-data", "registry_ca", _said("proved")),
        ("the node's proxy does not let its address through", "the host worker's allow-list", None),
    ),
    Code.IMAGE_NOT_FOUND: (
        ("the tag or digest was never pushed, or removed", "the registry's list of tags", None),
        ("the image has no manifest for linux/amd64", "skopeo inspect --raw", _said("machine", "platform")),
    ),
    Code.IMAGE_TRUNCATED: (
        ("an upload was cut off and the registry kept it", "push the image again", None),
        ("a proxy closes long answers", "timeouts and size limits on the way to the registry", None),
    ),
    Code.IMAGE_ALTERED: (
        ("the registry's storage is damaged", "its checksums; push the image again", None),
        ("somebody altered the image in the registry or on the way", "who may write there; treat as an attack", None),
    ),
    Code.IMAGE_MALFORMED: (
        ("the layers are zstd-compressed", "push with gzip layers", _said("zstd")),
        ("the image is bigger than the owner's policy admits", "limits in the image policy", _said("more", "bigger")),
        ("the image was made by a tool that writes it otherwise", "rebuild with a current builder", None),
    ),
    Code.IMAGE_NOT_ENCRYPTED: (
        ("a plain image was pushed over the published one", "the tag's history in the registry", None),
        ("the image is meant to be plain, and the policy does not say so", "`unencrypted` in the policy", None),
    ),
    Code.IMAGE_REFERENCE: (("the pod names the image in a short form", "image: in the pod's specification", None),),
    Code.SIGNATURE_MISSING: (
        ("the image was pushed without `publish --key`", "the signature's tag in the registry", None),
        ("it was pushed again after it had been signed: another digest", "the tag's digest", None),
        ("the signature was not copied along with the image", "the source registry", None),
    ),
    Code.SIGNATURE_WRONG: (
        ("it was signed with another key than the policy names", "the policy's key against the signer's", None),
        ("it was signed under another name", "the reference in the signature", _said("name")),
        ("the signature is for an earlier digest of the tag", "the tag's digest", None),
    ),
    Code.SIGNATURE_POLICY: (
        ("no rule of the image policy is for this repository", "the rules: `enclave-cc policy check`", None),
        ("the policy's key is no public key", "the resource that the rule names", _said("key")),
    ),
    Code.SEAL_FAILED: (
        ("the agent was replaced after it had decrypted", "whether the agent ended before", _said("not decrypted")),
        ("the node's disk fails", "the kernel's log on the node", _said("written")),
    ),
    Code.SEAL_NO_SPACE: (("the node's disk is full", "df on the node", None),),
    Code.CONFIG_PROCESS_DENIED: (
        ("the pod's specification differs from what the owner allowed", "the field that is named", None),
        ("Kubernetes added an environment variable or a mount", "compare `got` with the pod's yaml", None),
        ("the launch policy was not updated with the pod", "when the owner last put it", None),
    ),
    Code.CONFIG_LOCAL_ATTESTATION: (
        ("agent and boot bundles are of different releases", "both measurements", _said("understand")),
        ("one side ended in the middle", "the container's log and the agent's", _said("went away", "listen")),
        ("something on the node alters what they say", "treat the node as hostile until explained", None),
    ),
    Code.CONFIG_APP_MEASUREMENT: (
        ("boot's bundle was upgraded and the agent's not, or the reverse", "both measurements", None),
    ),
    Code.CONFIG_POLICY: (("the owner's launch policy cannot be used", "what `got` says of it", None),),
    Code.CONFIG_USED: (
        ("the container was started twice", "create the container again", None),
        ("the agent was replaced since it sealed the store", "whether the agent ended before", _agent_was_lost),
    ),
    Code.CONFIG_HOST_DATA: (
        ("the config map or secret changed since the owner named its digest", "sha256 in the policy", _got("sha256:")),
        ("a volume of data was admitted as host data", "name it a volume in the policy's rule", _got("more")),
        ("the node's copy is damaged, or somebody altered it", "the API server's copy, against `got`", None),
    ),
    Code.BOOT_STORE: (
        (
            "the node's disk altered the sealed store",
            "the kernel's log; mistrust the disk",
            _either(_said("altered"), _got("input/output error")),
        ),
        ("the kernel lacks FUSE, EROFS or overlayfs", "modprobe on the node", _said("mounted", "FUSE", "mount")),
    ),
    Code.BOOT_PROCESS: (
        ("the image has no such program, or it may not be executed", "command: against the image", None),
        ("the image has no such user or group", "/etc/passwd of the image", _said("image has no")),
    ),
    Code.BOOT_LOST: (
        ("the container's memory limit is too small for it to begin", "limits: in the pod; OOM killer", _got("137")),
        ("somebody stopped it meanwhile", "kubectl describe pod: liveness, eviction", _got("143")),
        ("boot init refused something", "the container's log: its reason is written there", None),
    ),
    Code.BOOT_VOLUME: (
        ("the volume is no directory, or went away", "the mount's source on the node", _got("ended with 6")),
        ("the node's memory or disk is full", "df and free on the node", None),
    ),
    Code.EXEC_DENIED: (
        ("the image's rule lists no such command under exec", "the launch policy, against what was run", None),
        ("a terminal was asked for (kubectl exec -t)", "terminal: of that entry of the policy", None),
    ),
    Code.EXEC_FAILED: (
        ("the image has no such program, or it may not be executed", "the command, against the image", None),
        ("the container's memory or process limit is reached", "limits: in the pod", None),
    ),
    Code.OUTPUT_KEY: (
        ("the policy was given another key since", "output_key_ids of config-delivered, by `events`", None),
    ),
    Code.OUTPUT_FORGED: (
        ("the file is another container's, or of another start of it", "the container's id in show", None),
        ("boot init wrote why the workload did not start", "the launch's failure", None),
        ("somebody on the node writes to its logs", "who may write there", None),
    ),
    Code.OUTPUT_GAP: (
        ("the kubelet removed rotated files", "containerLogMaxFiles of the kubelet", None),
        ("the log was edited on the node", "the file's times and owner", None),
    ),
    Code.OUTPUT_REPEATED: (
        ("a log was given twice, or its parts in another order", "what was read", None),
        ("somebody on the node put old lines in", "who may write there", None),
    ),
    Code.OUTPUT_CUT: (
        ("the container was killed (SIGKILL, memory) before its output had gone out", "exit code 137", None),
        ("containerd was away when the workload ended", "containerd's log at that time", None),
        ("the log was cut off on the node", "the size and times of the file", None),
    ),
    Code.FACT_FORGED: (
        ("another process has credentials that may append to histories", "who holds credentials of the bus", None),
        ("a damaged or restored event stream", "`verify` of an exported copy", None),
    ),
    Code.DEADLINE: (
        ("the pod's agent is stuck or gone", "the agent's log on the node", _in_zone(Zone.ENCLAVE)),
        ("the node's worker does not run", "status of the node's worker", _in_zone(Zone.HOST)),
        ("the node is overloaded", "its load, and other launches on it at that time", None),
    ),
    Code.INTERNAL: (("a defect of this system", "the worker's log of that moment; report it", None),),
    Code.BUS_AWAY: (("nats-server was away for too long", "its log at that time", None),),
    Code.BUS_FULL: (("the event stream reached its size", "size of the stream; export and archive", None),),
    Code.RUNTIME: (
        ("what runc says under `got`", "runc's own words", _said("runc")),
        ("the simulated CPU does not run", "its status", _said("simulated")),
        ("the node's disk is full", "df on the node", _got("no space")),
    ),
    Code.STOPPED: (
        (
            "containerd removed it: a timeout, an eviction, a deletion",
            "reason and actor of the stop",
            _got("removed by"),
        ),
        ("its pause container ended", "the exit of the pod in the history", _got("pause")),
    ),
    Code.BUS_HISTORY: (
        ("the stream's files were damaged or edited", "an exported copy and the audit log", None),
        ("something that is not of this system appends to it", "who holds credentials of the bus", None),
    ),
    Code.INPUT: (("a mistyped option or a file of another form", "`expected` against `got`", None),),
    Code.NOT_FOUND: (
        ("another stack or cluster is asked", "--name, --config, ENCLAVE_CC_CONFIG", None),
        ("its history is older than the stream", "exports and the audit log", None),
    ),
    Code.NOT_ALLOWED: (
        ("a reader's credentials were used", "the credentials that --config names", None),
        ("the node that runs the launch names other operators", "[orders] of its node.toml", None),
    ),
    Code.NOT_HERE: (
        ("the command is an owner's or a stack's, and this is a node", "`enclave-cc --help`", None),
        ("an optional part is not installed", "the module named under `expected`", None),
    ),
    Code.REPLAY_EXPORT: (
        ("the file was cut off or edited", "its size and digest where it was made", None),
        ("a newer version wrote it", "`versions` in its first line", None),
    ),
    Code.REPLAY_RESUME: (
        ("what the step needs was removed after the failure", "the launch's last facts: torn-down", None),
        (
            "the pod did not ask to be held",
            "hold_seconds of its first fact; [orders] of node.toml",
            None,
        ),
    ),
    Code.REPLAY_FORK: (
        ("the pod or the container is no longer on its node", "the launch's last facts: torn-down", None),
    ),
    Code.AUDIT_FORMAT: (("a transfer was cut off or converted", "the file's size and bytes at the log", None),),
    Code.AUDIT_SIGNATURE: (
        ("the wrong verifier key was given", "the log's own page, by another way", None),
        ("somebody else's checkpoint was put in place", "who may write to the log's storage", None),
    ),
    Code.AUDIT_QUORUM: (
        ("witnesses are away", "their status", None),
        ("the policy names witnesses that this log does not use", "the policy file", None),
    ),
    Code.AUDIT_INCLUSION: (
        ("proof and checkpoint are of different moments", "the sizes in both", None),
        ("the entry was altered", "its envelope against the event stream", None),
    ),
    Code.AUDIT_FORK: (
        ("the log's storage was restored from a copy and written on", "when it was restored", None),
        ("two writers ran with one key", "who ran the writer", None),
        ("the log's keeper shows different logs to different people", "both checkpoints, side by side", None),
    ),
    Code.AUDIT_ROLLBACK: (("the log's storage was restored from an older copy", "when it was restored", None),),
    Code.AUDIT_TILE: (
        ("the disk or the store lost or altered a file", "its own checks", None),
        ("a copy was not finished", "the files' sizes", None),
    ),
    Code.AUDIT_ENTRY: (("the log's entry or the stream's message was edited", "both, side by side", None),),
    Code.AUDIT_GAP: (
        ("messages were removed from the stream's files", "the sequences that are missing", None),
        ("the stream lost what it had acknowledged, at a power failure", "sync_interval of the server", None),
    ),
    Code.AUDIT_STREAM: (("the stream was made anew or restored", "when nats-server's data was last replaced", None),),
    Code.AUDIT_LEASE: (
        ("two writers were started", "how many `audit` writers run", None),
        ("the last writer died a moment ago", "try again in some seconds", None),
    ),
    Code.AUDIT_WITNESS: (
        ("the witness is down or unreachable", "its status", None),
        ("the witness has seen a longer log", "its checkpoint against ours", None),
    ),
    Code.NODE_CONTAINERD: (
        ("containerd's CRI is switched off", "disabled_plugins in its configuration", None),
        ("its configuration is a template, or is imported in parts", "`containerd config dump`", None),
    ),
    Code.NODE_SERVICE: (
        ("node.toml names what is not there", "the worker's log on the node", None),
        ("containerd was broken before", "its log on the node", None),
    ),
    Code.NODE_PAYLOAD: (
        ("a copy that was cut off or edited", "`enclave-cc payload verify`", None),
        ("a full disk", "df of /opt", None),
    ),
    Code.NODE_BUSY: (
        ("an operator's Job runs on the node", "the Jobs of its namespace", None),
        ("pods with the runtime class run there", "kubectl get pods, by node", None),
    ),
    Code.NODE_OTHER: (
        ("the node was made anew under its old name", "the machine-id in the node's status", None),
        ("another root was given", "--root", None),
    ),
    Code.PAYLOAD_VERSION: (
        ("Debian published a point release or a security update", "`apt policy` of the package", None),
        ("the environment is older than requirements/runtime.txt", "`enclave-cc payload lock --check`", None),
    ),
    Code.PAYLOAD_CONTENT: (
        ("a package's files were edited where they are installed", "`dpkg --verify`", None),
        ("a wheel was compiled by another compiler", "the `tool` lines of `enclave-cc payload lock --check`", None),
    ),
    Code.PAYLOAD_UNLISTED: (
        ("an import was added", "git log of inputs.lock", None),
        ("a distribution was installed beside the pinned ones, and is taken up by another", "`pip list`", None),
    ),
    Code.PAYLOAD_UNPINNED: (
        ("it was installed by hand", "`pip list`, and requirements/runtime.txt", None),
        ("`just lock` ran, and the environment was not made anew", "git log of requirements", None),
    ),
    Code.REFERENCES_KEY: (
        ("another owner released this payload", "the key named in the document", None),
        ("the owner's key was replaced", "the fingerprint they publish", None),
    ),
    Code.REFERENCES_ALTERED: (
        ("somebody changed the document", "the copy at its release", None),
        ("it was cut off on its way", "its size", None),
    ),
    Code.REFERENCES_FORMAT: (
        ("the file is something else: a key, a payload's manifest", "its first line", None),
        ("a later version signed it", "`enclave-cc --version`", None),
    ),
    Code.REFERENCES_OLDER: (
        ("documents were accepted out of order", "the signing times of both", None),
        ("somebody offers an older payload, whose defects are known", "who gave the document", None),
    ),
}
"""Code: (cause, how to tell, the sign in the launch that shows it), the most frequent first."""
