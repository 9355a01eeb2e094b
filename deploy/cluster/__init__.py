"""What a cluster's control plane is made of, beside the chart: its identities and its streams.

Zone: host. May import: `deploy.{kbs,local}`, `orchestrator`, `workers.host`.
"""
