"""What a node is given: the enclaves' bundles, each one read-only, measured image, and the node's own software.

Zone: owner (who builds and lists the measurements), and host (which stores and mounts the images).
May import: deploy.{cli,publish}, workers.enclave.image, workers.host.libos (entry, measurement), orchestrator.faults,
schemas, click, the standard library.

- `roles`: what goes into which bundle beside what is found.
- `closure`: the modules that an entry module needs, found by importing it; `_trace` runs in a process of its own.
- `elf`: the shared libraries of programs and extension modules.
- `bytecode`: sources compiled; `_compile` runs in a process of its own.
- `tree`: a file tree as a value. `erofs`: the tree as one image file.
- `bundle`: all of it in order, cached by content.
- `software`: programs with all that they need, started by `launcher` wherever it is unpacked. `host`: the node's.
- `origin`: which package a file came from; `sbom`: all of them in SPDX.
- `image`: the payload; `oci_layout`: an image as files, of which `layer` is one.
- `control_plane`: the images that the chart names.
- `contents`: a payload opened and checked; `difference`: of two. `pushing`: to a registry, signed.
"""
