"""The audit log: every stored fact as an entry of a C2SP transparency log, and what one can prove with it.

Zone: host writes it; anyone verifies it, offline. May import: `orchestrator`, `cryptography`, the standard library;
`storage`, `writer` and `witness` do I/O, every other module is pure.

Formats, one module each: `merkle` (RFC 6962), `note` (signed-note), `checkpoint`, `tiles`, `policy`, `proof`
(tlog-proof), `bundle` (the proofs of one launch), `entry` (what a leaf is). On them: `tree` (the growing edge), `log`
(tiles in a store), `writer` (the one process that appends), `witness` (cosigns what only grew), `verifier` (numbered
checks of a whole log or of a bundle), `search` and `export` (for people and other tools).

The log is evidence against its own host only as far as somebody else keeps checkpoints: witnesses, or an auditor's
last one. The verifier says so with every verdict.
"""
