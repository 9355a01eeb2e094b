"""The Kubernetes operator: installs the runtime on the nodes of a cluster, and takes it away again.

Zone: host (the untrusted control plane: it can stop a launch, and learns no secret).
May import: kopf, lightkube, celpy, click, structlog, orchestrator.{faults,log}, the annotations that
`workers.host.shim.bundle` reads, the standard library. `reconcile`, `node_step`, `rollout`, `status`, `record`,
`desired`, `observed`, `actions`, `report` and `admission.rules` do no I/O.

- `desired`, `observed`, `record`, `report`: what is wanted, what is there, what a node's annotation and Job said.
- `reconcile`: the decision, a pure function; `node_step` moves one node, `rollout` says which may begin,
  `status` tells people, `actions` is what comes of it.
- `manifests`, `permissions`: the documents that it writes, and the rights that it needs for that.
- `reading`, `cluster`: Kubernetes' documents into values, actions into requests. The only imports of lightkube.
- `leader`, `controller`, `handlers`: one of several decides; what wakes it; kopf.
- `admission`: the rules of confidential pods, from one source: a ValidatingAdmissionPolicy and a webhook.
- `ccruntime`: the upstream operator's resource, as far as it maps.
"""
