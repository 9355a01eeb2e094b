"""One machine's whole stack: bus, key broker, registry, simulated CPU, orchestrator, worker, snapshotter, containerd.

Zone: host, and the owner's key broker beside it: a machine to try, develop and test on, not a production layout.
May import: anything but `deploy.cli`.

- `layout`: where everything lies. `authority`: certificates. `bus_accounts`, `bus_server`: NATS.
- `registry`, `containerd`: the configuration of what Debian ships.
- `programs`: every process, how it starts, how one knows that it is ready.
- `supervision`: supervisord over them. `residue`: what a stack left behind.
- `stack`: up, down, status.
- `images`: the small images that demos, tests and benchmarks run.
"""
