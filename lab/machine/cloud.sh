#!/bin/sh
# Turn a copy of the machine root of root.sh into that of a cloud's instances: Google's agent, and no SSH.
#
#   cloud.sh TARGET DOWNLOADS PACKAGE...
#
# To be run as root in a mount and PID namespace of its own, as base.sh.
set -eu

target=$1 downloads=$2
shift 2
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

in_target() { chroot "$target" "$@"; }

mkdir -p "$downloads/partial"
mount -t proc proc "$target/proc"
mount --bind "$downloads" "$target/var/cache/apt/archives"
cat /etc/resolv.conf >"$target/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$target/usr/sbin/policy-rc.d" # nothing is started in here
chmod 0755 "$target/usr/sbin/policy-rc.d"

in_target apt-get update -q
in_target apt-get install -q -y --no-install-recommends "$@"
in_target systemctl enable google-guest-agent.service google-startup-scripts.service google-shutdown-scripts.service
# Nobody logs in: what joins here joins by itself.
in_target systemctl disable ssh.service
in_target systemctl mask ssh.service ssh.socket
rm -f "$target"/etc/ssh/ssh_host_*

rm -f "$target/usr/sbin/policy-rc.d" "$target/etc/resolv.conf"
install -m 0644 /dev/null "$target/etc/resolv.conf"
umount "$target/proc" "$target/var/cache/apt/archives"
rm -rf "$target/var/lib/apt/lists" "$target/var/cache/apt"/*.bin "$target/var/log/apt" "$target/var/log/dpkg.log"
mkdir -p "$target/var/lib/apt/lists/partial" "$target/var/log/apt"
