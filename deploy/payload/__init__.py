"""The enclaves' bundles: everything that the agent and boot init run from, in one read-only, measured image each.

Zone: owner (who builds and lists the measurements), and host (which stores and mounts the images).
May import: workers.host.libos (entry, measurement), orchestrator.faults, schemas, the standard library.

- `roles`: what goes into which bundle beside what is found.
- `closure`: the modules that an entry module needs, found by importing it; `_trace` runs in a process of its own.
- `elf`: the shared libraries of programs and extension modules.
- `bytecode`: sources compiled; `_compile` runs in a process of its own.
- `tree`: a file tree as a value. `erofs`: the tree as one image file.
- `bundle`: all of it in order, cached by content.
"""
