"""What one installs and runs: composition of the control plane and the workers, and the owner's tools.

Zone: host (local, node) and owner (kbs, publish, payload); each package says which. May import: orchestrator, workers,
schemas. Nothing imports deploy.
"""
