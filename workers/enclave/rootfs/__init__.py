"""The sealed root filesystem: from a plain layer stream to a mounted root, with nothing readable on the way.

What belongs here: reading layers (`tar`), merging them (`tree`), writing the merged tree as an EROFS image
(`erofs`, `image`), sealing that image unit by unit (`format`, `crypto`, `sealing`), opening what was sealed
(`store`), and mounting it in the app enclave (`mount`, `server`, `syscalls`, `overlay`). What does not: fetching or
decrypting layers (`workers.enclave.image`), deciding when (`workers.enclave.decrypt_image`, `seal_fs`, `boot_app`).

Zone: enclave. May import: the standard library, `cryptography`, `orchestrator.faults`; `pyfuse3` and `trio` in
`mount` only. The agent's bundle holds no pyfuse3, so nothing but `server` imports `mount`.

The format on disk is docs/formats/sealed-store.md.
"""
