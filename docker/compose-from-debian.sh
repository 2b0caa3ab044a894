#!/bin/sh
# `docker compose` and buildx for Debian 12, whose own docker-compose is the old version 1. They come from the packages
# of Debian 13, which need nothing that Debian 12 lacks; the system is not upgraded.
#
#     sh docker/compose-from-debian.sh [FOLDER]
set -eu
folder=${1:-/usr/local/lib/docker/cli-plugins}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# From wherever this machine has its own packages.
own_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 'Component: main' | head -n 1
}
mirror=$(own_mirror)
if [ -z "$mirror" ]; then
    apt-get update -qq
    mirror=$(own_mirror)
fi
if [ -z "$mirror" ]; then
    echo "apt knows of no packages of Debian here" >&2
    exit 1
fi
echo "deb $mirror trixie main" > "$place/sources.list"
mkdir -p "$place/lists/partial" "$place/cache/archives/partial"
apt_of_trixie() {
    apt-get -qq -o Dir::Etc::SourceList="$place/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$place/lists" -o Dir::Cache="$place/cache" -o APT::Sandbox::User=root "$@"
}
apt_of_trixie update
cd "$place"
apt_of_trixie download docker-compose docker-buildx
for package in *.deb; do
    dpkg-deb -x "$package" unpacked
done
install -D -t "$folder" unpacked/usr/libexec/docker/cli-plugins/*
