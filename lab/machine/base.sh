#!/bin/sh
# Make the Debian root that machines and container images start from.
#
#   base.sh TARGET SUITE ARCHITECTURE MIRROR DOWNLOADS PACKAGE...
#
# TARGET is an empty folder, MIRROR may be empty (then debootstrap's own default holds), DOWNLOADS keeps the
# fetched packages, so that an interrupted run does not fetch them again. To be run as root in a mount and PID
# namespace of its own (unshare --mount --pid --fork --kill-child): what it mounts ends with it.
set -eu

target=$1 suite=$2 architecture=$3 mirror=$4 downloads=$5
shift 5
include=$(echo "$@" | tr ' ' ',')

mkdir -p "$downloads"
debootstrap --variant=minbase --arch="$architecture" --include="$include" --cache-dir="$downloads" \
  "$suite" "$target" ${mirror:+"$mirror"}

# Nobody reads manuals in here, and every megabyte is copied into a cluster. Later installs leave them out too.
cat >"$target/etc/dpkg/dpkg.cfg.d/lean" <<'END'
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
END
for folder in doc info locale man; do
  rm -rf "${target:?}/usr/share/$folder"
  mkdir "$target/usr/share/$folder"
done

# What debootstrap took over from the host, and what only an installation needs.
rm -f "$target/etc/resolv.conf" "$target/etc/hostname"
install -m 0644 /dev/null "$target/etc/resolv.conf"
rm -rf "$target/var/lib/apt/lists" "$target/var/cache/apt" "$target/var/log/apt" \
  "$target/var/log/bootstrap.log" "$target/var/log/dpkg.log" "$target/var/cache/debconf"/*-old \
  "$target/var/lib/dpkg"/*-old "$target/usr/lib/python3"*/__pycache__
mkdir -p "$target/var/lib/apt/lists/partial" "$target/var/cache/apt/archives/partial" "$target/var/log/apt"
