"""TTRPC: gRPC's calls over a Unix socket without HTTP/2; unary calls only, as containerd makes them to a shim.

Peer: containerd/ttrpc, PROTOCOL.md. `frame` is the wire without I/O, `status` its errors, `answers` what a
request is answered with. `loop_server` and `loop_client` are a shim's two ends; `server` the same in
asyncio, for a node's worker and for tests.

Zone: host. May import: orchestrator.faults, schemas.containerd, workers.host.shim.loop, asyncio.
"""
