#!/bin/sh
# Make a Debian base image where no registry can be reached: debootstrap into an empty image.
# Needs root, debootstrap and buildah.  Usage: sh deploy/images/base.sh [NAME]
set -eu
name=${1:-gpupilot-base}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
packages=python3-venv,libpython3.11,ca-certificates,libgomp1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include="$packages" bookworm "$root" "$mirror"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* \
	"$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
container=$(buildah from scratch)
buildah add --quiet "$container" "$root" /
buildah config --cmd /bin/sh "$container"
buildah commit --quiet --rm "$container" "$name"
