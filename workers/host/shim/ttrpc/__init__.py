"""TTRPC: gRPC's calls over a Unix socket without HTTP/2; unary calls only, as containerd makes them to a shim.

Peer: containerd/ttrpc, PROTOCOL.md. `frame` is the wire without I/O, `status` its errors, `server` and `client` its
two ends.

Zone: host. May import: orchestrator.faults, schemas.containerd, asyncio.
"""
