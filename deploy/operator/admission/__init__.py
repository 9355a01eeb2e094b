"""What makes a confidential pod pointless, and is refused when it is created.

Zone: host. May import: celpy, kopf, deploy.operator, orchestrator.faults, the annotations of
`workers.host.shim.bundle`, the standard library.

Admission is a courtesy to people who write pods, not the boundary of trust: who controls the API server can leave it
out. What runs is judged in the enclave, by the owner's policies.

- `rules`: each rule once, as CEL over the pod.
- `policy`: the rules as a ValidatingAdmissionPolicy (Kubernetes 1.30 and later).
- `webhook`: the same texts evaluated here, for older clusters, and the prefetch annotation.
"""
