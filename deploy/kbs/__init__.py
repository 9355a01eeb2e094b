"""A small, strict key broker that speaks the CoCo KBS protocol 0.4.0, for one owner; use Trustee at a larger scale.

What belongs here: verifying evidence, appraising it by the owner's policies, issuing tokens, keeping and releasing
resources, the owner's admin commands. What does not: encrypting images (deploy/publish), anything the host runs.

Zone: owner. It holds keys: none of them, no resource and no token ever enters a log line or an error.
May import: orchestrator.faults, schemas, and of workers.enclave.kbs the names of resources and the TLS channel;
`accept` and the command line: deploy.publish, for a release's signed reference values.
"""
