"""What runs on the untrusted node: sandboxes, agents and boot inits are created here, through runc.

Zone: host. It sees ciphertext, digests and evidence; no key and no plaintext ever enters this package.
May import: workers.process, orchestrator.{lifecycle, events, faults, launch, bus}, schemas. Never workers.enclave.
"""
