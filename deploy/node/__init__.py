"""One node: a payload unpacked, its services, containerd's configuration; put on, changed, and taken off again.

Zone: host. May import: `deploy.{node,supervisord}`, `workers.host.{node,node_file,libos}`, `schemas`,
`orchestrator.faults`.

What a run does is a value before it is done: `plan` looks at what is (`observe`) and says which steps lead to what is
wanted, and which lead back. The plan is written to the `journal` before its first step; `run` does the steps. Whoever
kills it finds the node either way by running it again: the journal's plan goes on, or is undone.

- `places`: where everything lies, by the node's own view and by ours. `flavours`: whose containerd it is.
- `toml_edit`: changing an administrator's file and taking the change out again. `settings`: what containerd must know.
- `configuration`: which file is changed, and how. `preflight`: what containerd itself makes of the result.
- `payload`: verified, copied; `oci`: as an image's layout. `services`: systemd's or supervisord's. `probe`: containerd
  asked over the CRI.
- `steps`, `plan`, `journal`, `run`: above. `record`: what was installed. `report`: what a run says as its last act.
"""
