#!/bin/sh
# For machines that reach Debian's packages but no registry of images: makes a stand-in for the image that ours begin
# with, and hands it to the Docker engine under that name. Needs mmdebstrap.
#
#     sh docker/base-from-debian.sh [KEPT.tar]
#
# KEPT.tar is made where it is not there, and taken as it is where it is.
set -eu
image=python:3.11-slim-bookworm
kept=${1:-}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

make_archive() {
    # From wherever this machine has its own packages, if it is of the same release.
    sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) main' \
        'Created-By: Packages' 'Origin: Debian' 'Component: main' | grep ' bookworm' || true)
    # The certificates of this machine: a package index that it trusts, a build should trust.
    printf '%s\n' "$sources" | mmdebstrap --quiet --variant=essential \
        --include=python3,python3-pip,ca-certificates,libstdc++6 \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io \
        --customize-hook='ln -sf python3 "$1/usr/bin/python"' \
        --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
        bookworm "$1" ${sources:+-}
}

archive=$place/base.tar
if [ -n "$kept" ] && [ -e "$kept" ]; then
    archive=$kept
else
    make_archive "$archive"
    if [ -n "$kept" ]; then
        cp "$archive" "$kept.$$"
        mv "$kept.$$" "$kept" # whole, or not there at all
    fi
fi
docker import --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' "$archive" "$image" > /dev/null
