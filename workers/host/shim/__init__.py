"""containerd's task endpoint: `containerd-shim-enclave-cc-v2`, one process a pod. Thin: it decides nothing.

A request of containerd becomes a fact or a request on the bus; the fact that answers it becomes the reply. The pod's
processes are the host worker's; a shim that dies loses nothing but containerd's patience.

- `main`: what containerd executes; `start`, `delete`, and the serving process that `start` leaves behind.
- `zygote`: a process a node from which those serving processes are forked, ready and sharing memory; optional.
- `lost`: what `delete` does when the shim itself has died.
- `ttrpc`: the wire. `task`: the Task service. `publisher`: events to containerd.
- `pod`: the one seam to the rest of the system, and the values that cross it. `bus_pod`: that seam over the bus.

`start` runs once for every container, so `main`, `arguments` and `start` import next to nothing; a test compares what
each way of running imports with tests/architecture/shim_modules.txt.

Zone: host.
May import: orchestrator.{events, faults, fold, launch, lifecycle, bus}, workers.host.node, schemas. Never subprocess.
"""
