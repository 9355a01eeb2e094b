"""What a container's process may be: the host proposes, the owner's launch policy decides.

Zone: enclave. The proposal (containerd's OCI specification) is a request of the untrusted host; what no rule admits is
denied, and a denial names the field, what was expected and what was got.
May import: orchestrator.faults, schemas, workers.enclave.image (names, configuration, strict JSON).

- `document` - the policy: rules, secrets, admitted boot measurements; `matcher` - how a rule says a text.
- `proposal` - the host's OCI specification, parsed; `judge` - rule against proposal.
- `execs` - which commands may run beside the process.
- `approved` - the outcome, and its encoding for the attested channel; `accounts` - a user's name to numbers, inside.

Format: docs/formats/policies.md.
"""
