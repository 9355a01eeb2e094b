"""A simulated CPU: enclaves without SGX hardware, honest about being simulated.

Zone: host. A daemon run by root; whoever is root on the machine can defeat it, and docs/formats/simulated-enclave.md
says how. May import: `orchestrator.faults`, `schemas`, cryptography, the standard library.
"""
