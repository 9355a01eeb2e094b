"""What an enclave can prove and keep: reports, quotes, sealing keys, attested channels, buffers for secrets.

Zone: enclave. `interface` is the seam; `sim` is its implementation on the simulated CPU. `handshake` and `record` are
the local attestation protocol without I/O, `channel` puts them on a stream.
May import: `orchestrator.faults`, `schemas`, cryptography, the standard library. Never `workers.host`.
"""
