"""What each fault code means, and what to do next: for every code there is, so that nobody is left with a number.

Zone: any. May import: `orchestrator.faults`. Data only.

The enforcing code's own advice comes before what stands here, because it has seen the case. This is what is said where
it gave none, what `describe` prints beside it, and what docs/operations/faults.md is generated from. Likely causes, the
most frequent first, are in `orchestrator.story.causes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrator.faults import Code


@dataclass(frozen=True, slots=True)
class Remedy:
    """`meaning` is one clause, `action` one imperative sentence."""

    meaning: str
    action: str


REMEDIES: Final[dict[Code, Remedy]] = {
    Code.SANDBOX_NOT_CREATED: Remedy(
        "the pod's pause container could not be made",
        "Read containerd's and the host worker's log for this pod, mend the node, and let the pod be created again.",
    ),
    Code.SANDBOX_HOST_NETWORK: Remedy(
        "the pod shares the node's network, where its agent cannot have a loopback of its own",
        "Remove hostNetwork from the pod's specification.",
    ),
    Code.AGENT_NOT_STARTED: Remedy(
        "the agent enclave did not start",
        "Read the agent's log on the node, free ports 61440 to 61442 in the pod, and let the pod be created again.",
    ),
    Code.AGENT_LOST: Remedy(
        "the agent enclave ended while its pod lived, and the keys in its memory with it",
        "Look for what ended it (out of memory, an eviction); the pod needs a new agent, so let it be created again.",
    ),
    Code.AGENT_MEASUREMENT: Remedy(
        "the agent's bundle is not the one that was to be started",
        "Compare the bundle's digest with the release's and install the released bundle on the node.",
    ),
    Code.AGENT_INIT_DATA: Remedy(
        "the agent's init-data is not what the pod or the hardware says it is",
        "Put the owner's current init-data on the node, or correct the digest that the pod asks for.",
    ),
    Code.ATTEST_KBS_AWAY: Remedy(
        "the key broker could not be reached for the attestation",
        "Bring the key broker up and let the node's proxy reach it; then resume the launch or let it be made again.",
    ),
    Code.ATTEST_NOT_LISTED: Remedy(
        "the owner's reference values do not list this enclave",
        "If this agent is the released one, let the owner list its measurement at the broker; else replace it.",
    ),
    Code.ATTEST_DEBUG: Remedy(
        "the enclave can be debugged, so its memory is no secret",
        "Start enclaves without the attribute DEBUG.",
    ),
    Code.ATTEST_NONCE: Remedy(
        "the broker's challenge was not answered with, or did not bring, its own nonce",
        "Find what stands between agent and broker and replays answers; the broker itself must be asked directly.",
    ),
    Code.ATTEST_TOKEN: Remedy(
        "what the broker gave is no token that this agent may believe",
        "Check the clocks of both, and that the token's signer is under the authority in the init-data.",
    ),
    Code.ATTEST_PROTOCOL: Remedy(
        "what answered does not speak the key broker protocol 0.4.0",
        "Point kbs_url in the init-data to a broker of Trustee 0.14 or later.",
    ),
    Code.ATTEST_QUOTE: Remedy(
        "the quote is not genuine, or none could be made",
        "Set up the node's quote provider and collateral; create the pod again if the CPU's daemon was restarted.",
    ),
    Code.ATTEST_TCB: Remedy(
        "the platform's patch level, or its being simulated, is not good enough for the owner",
        "Update the platform's firmware, or let the owner decide to admit this TCB status.",
    ),
    Code.KEY_UNKNOWN: Remedy(
        "the broker has no key of the name that the image asks for",
        "Register the key at this broker by publishing the image to it again.",
    ),
    Code.KEY_DENIED: Remedy(
        "the owner's resource policy gives this enclave no such key",
        "Let the owner change the broker's resource policy, or use an image that is meant for this enclave.",
    ),
    Code.KEY_KBS_AWAY: Remedy(
        "the key broker could not be reached for a key",
        "Bring the key broker up and let the node's proxy reach it; then resume the launch or let it be made again.",
    ),
    Code.KEY_MALFORMED: Remedy(
        "the broker's answer holds no usable key",
        "Look at the resource's length at the broker (32 bytes) and at proxies on the way; publish the image again.",
    ),
    Code.KEY_WRONG: Remedy(
        "the key does not open the layer",
        "Publish the image again, so that layers and key are of the same day.",
    ),
    Code.IMAGE_REGISTRY_AWAY: Remedy(
        "the registry could not be reached",
        "Bring the registry up and let the node's proxy reach it; then resume the launch or let it be made again.",
    ),
    Code.IMAGE_NOT_FOUND: Remedy(
        "the registry has no such image for this platform",
        "Correct the reference in the pod, or push the image.",
    ),
    Code.IMAGE_TRUNCATED: Remedy(
        "a layer ended too early",
        "Push the image again; if it stays so, look for a proxy that cuts long answers.",
    ),
    Code.IMAGE_ALTERED: Remedy(
        "what the registry gave is not what was published",
        "Treat it as an attack until the registry's storage is proved damaged; then push the image again.",
    ),
    Code.IMAGE_MALFORMED: Remedy(
        "the image is not of a form that is accepted",
        "Build and push the image with a current builder and gzip layers, within the limits of the owner's policy.",
    ),
    Code.IMAGE_NOT_ENCRYPTED: Remedy(
        "a layer is plain where the owner's policy demands encryption",
        "Publish the image with `enclave-cc publish`, or let the owner's policy admit it unencrypted.",
    ),
    Code.IMAGE_REFERENCE: Remedy(
        "the image's name cannot be used as it is written",
        "Write the full reference in the pod: host/path:tag or host/path@digest.",
    ),
    Code.SIGNATURE_MISSING: Remedy(
        "the owner's policy demands a signature and the registry has none for this digest",
        "Sign the image: `enclave-cc publish --key`; copy its signature along when you copy the image.",
    ),
    Code.SIGNATURE_WRONG: Remedy(
        "no signature of this image is under a key that the owner's policy names",
        "Sign the image with the policy's key, or let the owner's policy name the signer's.",
    ),
    Code.SIGNATURE_POLICY: Remedy(
        "the owner's image policy does not admit this image at all",
        "Let the owner add a rule for its repository: `enclave-cc policy admit`.",
    ),
    Code.SEAL_FAILED: Remedy(
        "the sealed root file system could not be finished",
        "Look at the node's disk and at whether the agent was replaced; let the container be created again.",
    ),
    Code.SEAL_NO_SPACE: Remedy(
        "the node has no room for the sealed root file system",
        "Free disk space on the node; then resume the launch or let the container be created again.",
    ),
    Code.CONFIG_PROCESS_DENIED: Remedy(
        "the process that was asked for is outside the owner's launch policy",
        "Correct the pod's specification, or let the owner admit the member that is named: `enclave-cc policy put`.",
    ),
    Code.CONFIG_LOCAL_ATTESTATION: Remedy(
        "agent and app enclave did not come to trust each other",
        "Install agent and boot bundles of one release; read the container's and the agent's log.",
    ),
    Code.CONFIG_APP_MEASUREMENT: Remedy(
        "the app enclave is not one that the owner's launch policy lists",
        "Install the released boot bundle on the node, or let the owner list its measurement.",
    ),
    Code.CONFIG_POLICY: Remedy(
        "the owner's launch policy cannot be used",
        "Let the owner put a valid launch policy: `enclave-cc policy check`, then `enclave-cc policy put`.",
    ),
    Code.CONFIG_USED: Remedy(
        "the container's configuration was handed over before, or its store is gone",
        "Let the container be created again: a store's key goes out once.",
    ),
    Code.CONFIG_HOST_DATA: Remedy(
        "what the host has at an admitted mount is not what may be taken",
        "Compare the config map or secret with the digest in the launch policy; make what is large a volume there.",
    ),
    Code.BOOT_STORE: Remedy(
        "the sealed root file system could not be opened in the app enclave",
        "Read the node's kernel log for FUSE, EROFS and disk errors, mend the node, and create the container again.",
    ),
    Code.BOOT_PROCESS: Remedy(
        "the workload's process could not be built as it was asked for",
        "Correct the command, the user or the working directory: the image must have them.",
    ),
    Code.BOOT_LOST: Remedy(
        "the app enclave ended before its workload ran",
        "Read the container's log: boot init writes its reason there; raise its memory limit if it was killed.",
    ),
    Code.BOOT_VOLUME: Remedy(
        "an encrypted volume could not be mounted in the app enclave",
        "See whether the volume is a directory on the node and is not full; then create the container again.",
    ),
    Code.EXEC_DENIED: Remedy(
        "the owner's launch policy does not admit this command beside the workload",
        "Use a probe that the policy admits, or let the owner add the command to `exec` of the image's rule.",
    ),
    Code.EXEC_FAILED: Remedy(
        "a command beside the workload was admitted and could not be started",
        "Correct the command: the image must have the program, and the workload's user must be able to execute it.",
    ),
    Code.OUTPUT_KEY: Remedy(
        "this key does not open the sealed output",
        "Use the private key of a recipient that the launch policy named when the container was started.",
    ),
    Code.OUTPUT_FORGED: Remedy(
        "a line of the log was not written by the workload",
        "Believe only what was opened; find who else writes to the node's logs, or altered them.",
    ),
    Code.OUTPUT_GAP: Remedy(
        "records of the sealed output are missing",
        "Read the rotated log files too; if those hold no more, something on the node lost or removed lines.",
    ),
    Code.OUTPUT_REPEATED: Remedy(
        "a record of the sealed output comes again, or too late",
        "Give each log file once, the oldest first; if that was done, somebody put old lines into the log.",
    ),
    Code.OUTPUT_CUT: Remedy(
        "the sealed output has no end",
        "See in the history how the container ended; if it was not killed, the log was cut off on the node.",
    ),
    Code.FACT_FORGED: Remedy(
        "somebody other than the enclave stated an enclave's fact",
        "Treat the node as hostile: find who holds credentials of the bus, replace them, and verify other histories.",
    ),
    Code.DEADLINE: Remedy(
        "a step was not done in its time",
        "See whether the worker of that step runs and what its log says of that moment; then resume or make it again.",
    ),
    Code.INTERNAL: Remedy(
        "a defect of this system",
        "Report it, with `enclave-cc export` of the launch and the worker's log of that moment.",
    ),
    Code.STOPPED: Remedy(
        "the launch was stopped before it was done",
        "Find who asked for the stop in the history; if nobody meant it, let the pod be created again.",
    ),
    Code.BUS_AWAY: Remedy(
        "the bus did not answer",
        "Bring nats-server up (`enclave-cc status`) and try again.",
    ),
    Code.BUS_FULL: Remedy(
        "a stream of the bus has no more room",
        "Export and archive old histories, or give the stream more room.",
    ),
    Code.BUS_HISTORY: Remedy(
        "a stored message is not what was once stored there, or is missing",
        "Believe nothing after that message; compare the stream with an exported copy and with the audit log.",
    ),
    Code.RUNTIME: Remedy(
        "a part that this system relies on failed",
        "Read that part's own words under `got`, mend it on the node, and let the step be made again.",
    ),
    Code.INPUT: Remedy(
        "what was given cannot be used",
        "Correct what is named under `got` to what is named under `expected`.",
    ),
    Code.NOT_FOUND: Remedy(
        "there is no such thing",
        "List what there is: `enclave-cc launches`, `enclave-cc status`.",
    ),
    Code.NOT_ALLOWED: Remedy(
        "the role of these credentials does not allow it",
        "Use the operator's credentials, or ask somebody who has them.",
    ),
    Code.NOT_HERE: Remedy(
        "this installation of enclave-cc has not what the command needs",
        "Run it where the whole of enclave-cc is installed: a payload holds what a node needs and no more.",
    ),
    Code.REPLAY_EXPORT: Remedy(
        "an exported history is not what it says it is",
        "Export it again where it came from; if that copy agrees, this one was damaged or altered on the way.",
    ),
    Code.REPLAY_RESUME: Remedy(
        "this launch cannot go on from where it failed",
        "Let the pod be created again; to have time the next time, ask for a hold (docs/operations/replay.md).",
    ),
    Code.REPLAY_FORK: Remedy(
        "no launch can be made from this one",
        "Fork a launch that is still on its node; of one that is gone, `enclave-cc export --at` keeps the history.",
    ),
    Code.AUDIT_FORMAT: Remedy(
        "a file of the audit log is not of its format",
        "Fetch it again from the log or from a mirror; if it stays so, keep it as evidence and tell the log's keeper.",
    ),
    Code.AUDIT_SIGNATURE: Remedy(
        "a checkpoint is not signed by the log that it names",
        "Check the verifier key that you were given by another way; if it is right, believe nothing of this log.",
    ),
    Code.AUDIT_QUORUM: Remedy(
        "too few witnesses have signed the checkpoint",
        "Wait for the next checkpoint and see which witnesses are away; do not lower the quorum to make it pass.",
    ),
    Code.AUDIT_INCLUSION: Remedy(
        "a proof does not lead from the entry to the checkpoint's root",
        "Get the proof again; if it stays wrong, the entry was never in that log: keep both as evidence.",
    ),
    Code.AUDIT_FORK: Remedy(
        "the log was shown in two versions that cannot both be true",
        "Keep both checkpoints: they are the proof. Stop trusting the log and ask who could sign with its key.",
    ),
    Code.AUDIT_ROLLBACK: Remedy(
        "the log is shorter than it once was",
        "Restore the log from a mirror before its writer goes on; compare with the newest checkpoint kept elsewhere.",
    ),
    Code.AUDIT_TILE: Remedy(
        "a tile of the log is damaged or missing",
        "Run `enclave-cc audit fsck` and restore the tile that it names from a mirror.",
    ),
    Code.AUDIT_ENTRY: Remedy(
        "an entry is not what its message says, or not of our form",
        "Compare the entry with the event stream and an exported history; one of them was altered.",
    ),
    Code.AUDIT_GAP: Remedy(
        "messages of the stream are missing in the log, or in another order",
        "Compare the stream's sequences with the log's; restore the stream from a copy and find who removed them.",
    ),
    Code.AUDIT_STREAM: Remedy(
        "the event stream is not the one that the log was written from",
        "Find out whether the stream was restored from a copy; begin a new log only on the owner's word.",
    ),
    Code.AUDIT_LEASE: Remedy(
        "another writer holds the log",
        "Let one writer run; stop the other and start this one again.",
    ),
    Code.AUDIT_WITNESS: Remedy(
        "a witness did not answer as it should",
        "Bring the witness up, and read its answer under `got`: the log goes on without it only while a quorum does.",
    ),
    Code.NODE_CONTAINERD: Remedy(
        "the node's containerd cannot be given our handler without losing something",
        "Read what would be lost, mend containerd's own configuration, and install again; nothing was changed.",
    ),
    Code.NODE_SERVICE: Remedy(
        "containerd or a service of ours did not serve after it was started",
        "Read its log on the node, mend what it names, and run the command again; the node is as it was before.",
    ),
    Code.NODE_PAYLOAD: Remedy(
        "a payload is not what it says it is",
        "Fetch the released payload again, by its digest, and install that.",
    ),
    Code.NODE_BUSY: Remedy(
        "somebody else is at work on the node, or confidential pods run there",
        "Wait for the other run, or drain the node; then run the command again.",
    ),
    Code.NODE_OTHER: Remedy(
        "the command reached another machine than the one that was meant",
        "Compare the node's machine-id with the one given, and give the root of the right node.",
    ),
    Code.PAYLOAD_VERSION: Remedy(
        "a package that a payload is built from has another version than a release's",
        "Install the listed version; or look at what changed, write the list anew with `enclave-cc payload lock`, and "
        "commit it: the measurements will be others.",
    ),
    Code.PAYLOAD_CONTENT: Remedy(
        "a package that a payload is built from has the listed version and other files",
        "Install it anew from its archive, and find out who changed it; do not list it as it is.",
    ),
    Code.PAYLOAD_UNLISTED: Remedy(
        "a payload takes in a package that is not listed, or no longer one that is",
        "See which import or library brought it; if it is wanted, `enclave-cc payload lock`, and commit the list.",
    ),
    Code.PAYLOAD_UNPINNED: Remedy(
        "a Python distribution of a payload is not the one that requirements/runtime.txt pins",
        "Make the environment anew with `sh deploy/setup.sh`; for another version, `just lock` first.",
    ),
    Code.REFERENCES_KEY: Remedy(
        "reference values are signed with another key than the one that was given",
        "Give the public key of whoever released the payload, and get it another way than the document.",
    ),
    Code.REFERENCES_ALTERED: Remedy(
        "reference values are not what was signed",
        "Accept nothing of it; fetch the document again from where the payload was released.",
    ),
    Code.REFERENCES_FORMAT: Remedy(
        "a document holds no reference values of a payload that this version knows",
        "Compare the versions: a later release's document needs a later `enclave-cc kbs accept`.",
    ),
    Code.REFERENCES_OLDER: Remedy(
        "the key broker has accepted reference values that were signed later",
        "If an older payload is wanted again, its owner signs its reference values anew: `enclave-cc payload sign`.",
    ),
}
"""In the order of `faults.Code`."""
