# Every task of this repository. `just` alone lists them. What they need: `sh deploy/setup.sh`.

set positional-arguments

export PATH := justfile_directory() / ".venv/bin" + ":" + env("PATH")

# List the recipes.
default:
    @just --list --unsorted

# Install what is missing: Debian packages, .venv, the project itself. Asks for root.
setup:
    sh deploy/setup.sh

# Everything a machine can judge without running the system: lint, format, types, import rules, generated code.
check: lint types imports schemas-current chart-current

# Lint and formatting, changing nothing.
lint:
    ruff check .
    ruff format --check .

# Types, strictly.
types:
    mypy

# The arrows of ARCHITECTURE.md.
imports:
    lint-imports --no-logo

# Format and mend what can be mended.
fmt:
    ruff format .
    ruff check --fix .

# The whole suite, on real servers, containerd and mounts. Needs root.
test *args:
    pytest -n 2 --dist loadfile "$@"

# What is quick: unit, property, vectors, architecture.
unit *args:
    pytest tests/unit tests/property tests/vectors tests/architecture "$@"

# Whole launches on a stack of their own. Needs root.
e2e *args:
    pytest tests/e2e "$@"

# Build Kubernetes from Debian's source package, unless that is done: seven minutes of two cores. Needs root.
kubernetes:
    python -m tests.kubernetes.build

# A real cluster, and confidential pods through kubectl; KUBECONFIG with ENCLAVE_CC_IMAGES: on that one. Needs root.
e2e-kubernetes *args:
    #!/bin/sh
    set -eu
    if [ -n "${KUBECONFIG:-}" ] && [ -n "${ENCLAVE_CC_IMAGES:-}" ]; then
        exec pytest tests/kubernetes --ignore=tests/kubernetes/test_control_plane.py "$@"
    fi
    python -m tests.kubernetes.build
    exec pytest tests/kubernetes "$@"

# A node from nothing and back on every containerd that can be had, killed on the way. Needs root, and four minutes.
e2e-node *args:
    pytest tests/e2e/test_node_install.py tests/e2e/node_releases.py "$@"

# A machine's whole stack, a redis pod from an encrypted image, its history and its proof. Needs root.
demo *args:
    enclave-cc demo "$@"

# Run one benchmark of tests/bench: `just bench launches`.
bench name *args:
    name=$1; shift; python -m "tests.bench.$name" "$@"

# Ten minutes of whatever could come over a shim's socket; a failure names the seed that repeats it. Needs root.
fuzz-ttrpc *args:
    python -m tests.fuzz.campaign "$@"

# A hundred confidential pods at once, each with a workload that answers; and nothing left. Needs root, and 8 GB.
soak-pods *args:
    python -m tests.soak.pods "$@"

# Twenty confidential pods, a command that streams 100 MB, and every process killed once; beside runc. Needs root.
soak-kills *args:
    python -m tests.soak.kills "$@"

# Generate the code of every .proto under schemas/.
schemas:
    python schemas/generate.py

# Fail if the generated code of schemas/ is not what the .proto files give.
schemas-current:
    python schemas/generate.py --check

# Copy into the chart what it has from deploy/operator: the CustomResourceDefinition, the rules of admission.
chart:
    python deploy/chart/generate.py

# Fail if the chart's copies are not what deploy/operator gives.
chart-current:
    python deploy/chart/generate.py --check

# Start this machine's stack.
up *args:
    enclave-cc up "$@"

# Stop it, and prove that nothing is left behind.
down *args:
    enclave-cc down "$@"

# Write requirements/*.txt anew from pyproject.toml: every package pinned by version and hash, no address.
lock:
    #!/bin/sh
    set -eu
    pin() {
        uv pip compile --quiet --python .venv/bin/python --generate-hashes --no-emit-index-url --no-annotate \
            --custom-compile-command "just lock" "$@"
    }
    pin --group build -o requirements/build.txt
    pin pyproject.toml -o requirements/runtime.txt
    pin --group dev pyproject.toml -o requirements/dev.txt
