"""containerd's image endpoint: a proxy snapshotter under which the host pulls no layer of an encrypted image.

Ordinary layers get ordinary overlayfs. A layer that is encrypted, or lies on one that is, gets a *remote* snapshot:
committed, empty, answered with ALREADY_EXISTS, so that containerd downloads nothing for it; the pod's agent pulls it
inside the enclave. Deciding is `layers`, keeping is `store` and `directories`, answering is `snapshotter`;
`service` turns gRPC into calls.

Zone: host. It reads manifests and image configurations, never a layer.
May import: orchestrator.faults, schemas.containerd, grpc. grpc only in `service`, `content` and `__main__`.
"""
