#!/bin/sh
# Make the sidecar's rpm with the rpmbuild of a machine root of rpm.sh, in which nothing is written.
#
#   rpmbuild.sh ROOT SPEC FOLDER VERSION
#
# FOLDER has `tree`, the package's files, and `tree.postinst`, what it runs; it gets `RPMS`. To be run as root in a mount
# and PID namespace of its own, as base.sh.
set -eu

root=$1 spec=$2 folder=$3 version=$4

cp "$spec" "$folder/sidecar.spec"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$folder" "$root/mnt"
chroot "$root" rpmbuild -bb --define '_topdir /mnt' --define '_tmppath /tmp' --define 'tree /mnt/tree' \
  --define "sidecar_version $version" /mnt/sidecar.spec
