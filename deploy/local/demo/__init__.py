"""`enclave-cc demo`: the whole system on one machine, from an image owner's `publish` to nothing left behind.

Zone: it plays every part: the owner, the cluster that launches, the auditor. May import: `deploy`, `orchestrator`.

- `scenario`: the acts, in order; each is what a person would do by hand.
- `watching`: a launch in its history, while it happens.
- `workload`: asking the workload whether it works.
- `tampering`: altering the image where an attacker could, in the registry's own files.
- `report`: what was seen, as a value; `command`: the command line.
"""
