#!/bin/sh
# Take Prometheus and its promtool out of Debian's package, and pack the program as Prometheus' own releases are.
#
#   prometheus.sh TARGET BASE
#
# TARGET is the folder to fill, BASE the Debian root of base.sh, a copy of which fetches the package: it has the
# suite's sources and keys. To be run as root in a mount and PID namespace of its own, as base.sh. Nothing is installed.
set -eu

target=$1 base=$2
root=$target/root

cp -a "$base" "$root"
cat /etc/resolv.conf >"$root/etc/resolv.conf"
chroot "$root" apt-get update -q
chroot "$root" sh -c 'cd /var/tmp && apt-get download -q -o APT::Sandbox::User=root prometheus'
dpkg-deb --fsys-tarfile "$root"/var/tmp/prometheus_*.deb |
    tar -x -C "$target" --strip-components=3 ./usr/bin/prometheus ./usr/bin/promtool
rm -rf "$root"

mkdir "$target/prometheus-release"
cp "$target/prometheus" "$target/prometheus-release/"
tar -C "$target" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - prometheus-release |
    gzip -n -1 >"$target/prometheus.tar.gz"
rm -rf "$target/prometheus-release"
sha256sum "$target/prometheus.tar.gz" | cut -d ' ' -f 1 >"$target/sha256"
