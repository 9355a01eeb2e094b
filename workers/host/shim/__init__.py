"""containerd's task endpoint: `containerd-shim-enclave-cc-v2`, one process a pod. Thin: it decides nothing.

A request of containerd becomes a question to the node's worker, and there a fact or a request on the bus; the fact that
answers it becomes the reply. The pod's processes are the host worker's; a shim that dies loses nothing but containerd's
patience.

- `main`: what containerd executes; `start`, `delete`, and the serving process that `start` leaves behind.
- `zygote`: a process a node from which those serving processes are forked, ready and sharing memory; optional.
- `lost`: what `delete` does when the shim itself has died.
- `ttrpc`: the wire. `task`: the Task service. `publisher`: events to containerd.
- `pod`: the one seam to the rest of the system, and the values that cross it. `line_pod`: that seam over the worker's
  socket, whose other end (`workers.host.shim_door`) is `bus_pod`: that seam over the bus.
- `loop`: coroutines over epoll, instead of asyncio (docs/adr/0015). `rehearsal`: a pod's life played before the fork.

`start` runs once for every container, so `main`, `arguments` and `start` import next to nothing; a test compares what
each way of running imports with tests/architecture/shim_modules.txt.

Zone: host.
May import: orchestrator.{bodies, faults}, workers.host.node_file, schemas. `bus_pod`, `alone` and `lost`, which no shim
imports, also orchestrator.{events, fold, launch, lifecycle, bus}, workers.host. Never subprocess.
"""
