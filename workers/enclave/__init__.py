"""What runs inside an enclave: the pod's agent and each container's boot init.

Zone: enclave. It sees everything of its own pod. What comes from the host is a request, checked against the owner's
policy before anything is done. May import: workers.process, orchestrator.{lifecycle, events, faults, launch, bus},
schemas. Never workers.host.
"""
