# shellcheck shell=sh disable=SC2154 # the recipes that source this set target and downloads
# What the recipes of machines' roots have in common. `target` is the root, `downloads` keeps fetched packages.

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

in_target() { chroot "$target" "$@"; }

# open_target PACKAGE...: makes the root one that packages can be installed in, and installs these
open_target() {
  mkdir -p "$downloads/partial"
  mount -t proc proc "$target/proc"
  mount --bind "$downloads" "$target/var/cache/apt/archives"
  cat /etc/resolv.conf >"$target/etc/resolv.conf"
  printf '#!/bin/sh\nexit 101\n' >"$target/usr/sbin/policy-rc.d" # nothing is started in here
  chmod 0755 "$target/usr/sbin/policy-rc.d"
  in_target apt-get update -q
  in_target apt-get install -q -y --no-install-recommends "$@"
}

# close_target: takes away what the installation left, and what each machine is given
close_target() {
  rm -f "$target/usr/sbin/policy-rc.d" "$target/etc/resolv.conf"
  install -m 0644 /dev/null "$target/etc/resolv.conf"
  umount "$target/proc" "$target/var/cache/apt/archives"
  rm -rf "$target/var/lib/apt/lists" "$target/var/cache/apt"/*.bin "$target/var/log/apt" "$target/var/log/dpkg.log" \
    "$target/var/log/alternatives.log" "$target/var/cache/debconf"/*-old "$target/var/lib/dpkg"/*-old
  mkdir -p "$target/var/lib/apt/lists/partial" "$target/var/log/apt"
}
