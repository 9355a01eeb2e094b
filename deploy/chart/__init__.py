"""The Helm chart of a cluster's control plane, its overlays, and what of it is generated (`generate`).

Zone: owner. May import: `deploy.operator`, the standard library.
"""
