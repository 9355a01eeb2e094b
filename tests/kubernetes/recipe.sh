#!/bin/sh
# sh recipe.sh SOURCE TOOLS
#
# Builds Kubernetes' programs in SOURCE, Debian's unpacked source package, with the packages unpacked below TOOLS:
# Debian's Go, and its reflect2. May be killed and started again: Go's cache, beside SOURCE, has what was compiled.
set -eu
source=$1
tools=$2
cd "$source"

# The vendored reflect2 1.0.1 faults in mapiternext under Go 1.18 and later; Debian's 1.0.2 does not.
reflect2=vendor/github.com/modern-go/reflect2
rm -f $reflect2/*.go $reflect2/*.s
cp "$tools"/usr/share/gocode/src/github.com/modern-go/reflect2/*.go $reflect2/
cp "$tools"/usr/share/gocode/src/github.com/modern-go/reflect2/*.s $reflect2/

# Without git the programs do not know their version, which clients ask for: 1.20.5+really1.20.2-1 is 1.20.2.
version=$(dpkg-parsechangelog --show-field Version | sed 's/.*really//; s/-.*//')
cat >version.sh <<END
KUBE_GIT_COMMIT=debian
KUBE_GIT_TREE_STATE=archive
KUBE_GIT_VERSION=v$version
KUBE_GIT_MAJOR=${version%%.*}
KUBE_GIT_MINOR=$(echo "$version" | cut -d. -f2)
END
export KUBE_GIT_VERSION_FILE="$PWD/version.sh"

# make expects the source below a GOPATH.
export GOPATH="$PWD/.go" GOROOT="$tools/usr/lib/go-1.19" GOCACHE="$PWD/../gocache" HOME="$PWD/../home"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local PATH="$tools/usr/lib/go-1.19/bin:$tools/usr/bin:$PATH"
mkdir -p .go/src/k8s.io "$HOME"
[ -L .go/src/k8s.io/kubernetes ] || ln -s ../../.. .go/src/k8s.io/kubernetes

for program in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
    echo "== $program"
    make WHAT="cmd/$program"
done
