"""From an image's name to verified plaintext layers: pull, check the owner's signature, unwrap keys, decrypt.

Zone: enclave. The registry, the way to it and the name that is asked for are the host's: nothing they say is believed
before it is checked against the owner's policy and a digest. Layer keys live in this process's memory only.
May import: orchestrator.faults, schemas.strict_json, workers.enclave.kbs.uri, cryptography, urllib3, the standard
library.

Synchronous throughout: callers use threads.

Start at `pull`: it says the order of the checks and is all that a caller needs. What is believed when:

- `reference` - a name, as containerd writes it; `document` - JSON that says where it is wrong; `resource` - the broker.
- `transport`, `credentials`, `registry`, `blob`, `read_ahead` - bytes from a registry, bounded before they are
  read, pinned by digest.
- `manifest` - index, manifest and configuration as frozen values.
- `policy`, `identity`, `signature` - whether the owner admits this image: a raise or a `Verdict`.
- `ocicrypt`, `gunzip`, `layers` - the key of a layer; its tar stream, which proves itself at its end.

Formats: docs/formats/policies.md.
"""
