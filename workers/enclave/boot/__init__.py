"""Boot init: the first process of an app enclave. It proves itself to the pod's agent, mounts what it is given the key
for, starts the workload, and stays as its parent.

Zone: enclave. May import: `workers.enclave.{messages,rootfs,tee}`, `orchestrator.faults`, `schemas`; never the bus.

- `conversation`: what it says to the agent.
- `process`: the OCI configuration of the workload, from what the agent approved.
- `supervision`: crun starts it; signals go to it; its status becomes ours. `children`: the one wait for all of them.
- `streams`: the workload's own standard streams; `output` seals them where the owner's policy says so.
- `execs`: commands beside the workload, at the host's request and the agent's word. `terminal`: a process's, if any.
"""
