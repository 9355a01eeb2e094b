#!/bin/sh
# sh deploy/setup.sh [demo|test]
#
# Installs what a fresh Debian 12 lacks, then runs `just demo` or `just test`; without a word it only installs.
# A machine that has everything is left alone: a second run starts in under two seconds.
#
# It needs root (packages, containers, mounts). It installs Debian packages without starting their services, makes
# .venv beside this folder from Debian's own Python, with every package pinned by hash, and puts `enclave-cc` and `just`
# in .venv/bin. It writes nothing else.
#
# Exit: 0 done; 64 wrong usage; 69 a package source did not answer; 77 not root; 78 not a Debian with Python 3.11 or
# later; else the recipe's own.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=$root/.venv
python=/usr/bin/python3

# Sandboxes and containers: containerd runc conmon crun catatonit containernetworking-plugins iptables iproute2.
# Images: docker-registry skopeo umoci mmdebstrap busybox-static erofs-utils. Shown in the demo: redis.
# The console's tests in a real browser: chromium and its driver, and a font for it.
# Inside app enclaves, beside crun: gocryptfs, for encrypted volumes.
# FUSE, and the two Python packages that come as sources: fuse3 libfuse3-dev gcc libc6-dev pkg-config python3-dev.
packages='
containerd runc conmon crun catatonit containernetworking-plugins iptables iproute2
docker-registry skopeo umoci mmdebstrap busybox-static erofs-utils gocryptfs redis-server redis-tools
chromium chromium-driver fonts-dejavu-core
fuse3 libfuse3-dev gcc libc6-dev pkg-config python3-dev python3-venv ca-certificates
'

say() { printf 'setup: %s\n' "$*"; }
stop() {
    code=$1
    shift
    printf 'setup: %s\n' "$@" >&2
    exit "$code"
}

# Debian packages that are not installed, one a line.
missing_packages() {
    # shellcheck disable=SC2086 # a list of words
    installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' $packages 2>/dev/null || :)
    for package in $packages; do
        case "
$installed
" in *"
$package installed
"*) ;; *) echo "$package" ;; esac
    done
}

# What the Python environment was made from; written into it when it is whole.
fingerprint() {
    cat "$root/deploy/setup.sh" "$root/pyproject.toml" "$root"/requirements/*.txt | sha256sum | cut -d' ' -f1
    echo "$root"
}

# Debian starts a service when its package is configured. Ours run from the stack's own folder, so none is wanted.
install_packages() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    say "reading the package lists"
    DEBIAN_FRONTEND=noninteractive apt-get -qq update ||
        stop 69 "apt-get update failed: are this machine's package sources reachable?"
    say "installing: $(echo $*)"
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "$@" >/dev/null ||
        stop 69 "apt-get install failed: see its lines above"
    if [ -d /run/systemd/system ]; then
        for service in redis-server docker-registry; do
            case " $* " in *" $service "*) systemctl --quiet disable "$service" || : ;; esac
        done
    fi
}

install_python() {
    if ! "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.base_prefix != "/usr")' 2>/dev/null; then
        say "making .venv from $("$python" --version)"
        "$python" -m venv --clear "$venv"
    fi
    rm -f "$venv/complete"
    pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check install "$@"; }
    away="a Python package could not be had: is this machine's package index reachable?"
    say "installing what builds packages, pinned"
    pip --require-hashes --no-deps -r "$root/requirements/build.txt" || stop 69 "$away"
    say "installing the project's requirements, pinned (a minute or two)"
    pip --require-hashes --no-deps --no-build-isolation -r "$root/requirements/dev.txt" || stop 69 "$away"
    pip --no-deps --no-build-isolation --editable "$root" || stop 69 "the project itself did not install"
    fingerprint >"$venv/complete"
}

install() {
    lacking=$(missing_packages)
    complete=$(fingerprint)
    if [ -z "$lacking" ] && [ "$(cat "$venv/complete" 2>/dev/null)" = "$complete" ]; then
        return
    fi
    if [ "$(id -u)" != 0 ]; then
        stop 77 "this needs root, to install Debian packages and to run containers:" "  sudo sh deploy/setup.sh" \
            "not installed yet: $(echo ${lacking:-the Python environment})"
    fi
    # shellcheck disable=SC2086 # a list of words
    [ -z "$lacking" ] || install_packages $lacking
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || stop 78 "$python is older than 3.11"
    install_python
    say "ready"
}

case "$#:${1:-}" in
0: | 1:demo | 1:test) ;;
*) stop 64 "usage: sh deploy/setup.sh [demo|test]" ;;
esac
if [ "$#" = 1 ] && [ "$(id -u)" != 0 ]; then
    stop 77 "containers need root: sudo sh deploy/setup.sh $1"
fi
command -v apt-get >/dev/null || stop 78 "this is no Debian: apt-get is missing"
install
[ "$#" = 0 ] || exec "$venv/bin/just" --justfile "$root/Justfile" "$1"
