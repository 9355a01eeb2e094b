"""What a workload wrote, as its owner reads it: out of the log files of a host that is not trusted.

Zone: owner. May import: `schemas`, `orchestrator.{faults,launch}`, `cryptography`, `joserfc`, the standard library.

- `lines`: a log's lines, in the CRI's format or as they are, of all files of a log. `kubelet`: which log is meant.
- `recipient`: the owner's private key, and the output's key that was wrapped for it.
- `opening`: records in, what was written out, and whatever is wrong with them.
"""
