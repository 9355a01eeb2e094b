"""How an enclave comes to be on this machine: the seam between the host worker and a library operating system.

Zone: host. Nothing here is trusted by an owner: what an enclave is gets measured, and the measurement is attested.
May import: `orchestrator.faults`, `schemas`, the standard library; `sim` also imports cryptography.
Never imports `workers.enclave`.

`backend` is the seam; `sim` implements it with a simulated CPU.
"""
