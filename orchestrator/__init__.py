"""The control plane: what a launch is, what happened to it, what comes next.

Zone: host. It carries ciphertext, digests and evidence; keys and plaintext never pass through it.
May import: `schemas`, the standard library and its own dependencies; neither `workers` nor `deploy`.

Start at `lifecycle`, one page that says what a launch is; `launch` folds a history into it.
"""
