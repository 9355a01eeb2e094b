"""The executors: each carries out transitions of a launch and appends the fact that it is done.

Zone: host and enclave, one package each. May import: orchestrator.{lifecycle, events, faults, launch, bus}, schemas.
"""
