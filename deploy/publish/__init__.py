"""The owner's tools: encrypt an image, push it, sign it, register its key and the policies that admit it.

What belongs here: everything that needs the owner's signing key, admin key or an image's plaintext before it is
encrypted. What does not: the key broker itself (deploy/kbs), bundles and measurements (deploy/payload).

Zone: owner. Plaintext streams from the owner's own storage through the cipher to the registry: no temporary file holds
it, nor any key. May import: deploy.kbs, workers.enclave.{image, launch_policy, kbs}, orchestrator.faults.

- `source` - where the plain image comes from; `encrypt` - a layer's cipher and key packet; `salt` - the layer that
  tells it from its plain twin; `push` - to a registry.
- `cosign_key`, `sign` - the signing key's file, and signatures beside an image.
- `policies` - the owner's folder of policy documents; `publication` - all of it in order; `cli` - the commands.
"""
