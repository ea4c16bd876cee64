#!/bin/sh
# Turn a copy of the machine root of root.sh into that of machines whose packages rpm keeps: what a script meets on
# Red Hat's family, as far as it can be had of Debian. Its sh is bash, it calls itself Rocky Linux 9, and rpm's own
# database knows what a package may ask for. Kernel, C library and all programs are Debian's.
#
#   rpm.sh TARGET DOWNLOADS FILES PACKAGE...
#
# FILES is the folder of this script. To be run as root in a mount and PID namespace of its own, as base.sh.
set -eu

target=$1 downloads=$2 files=$3
shift 3
# shellcheck source=lab/machine/chroot.sh
. "$files/chroot.sh"

open_target "$@"

# Debian's rpm has a database for each user, and refuses to install anything without this word.
mkdir -p "$target/etc/rpm"
echo '%_dbpath /var/lib/rpm' >"$target/etc/rpm/macros"
echo 'rpm alias --install --install --force-debian
rpm alias --upgrade --upgrade --force-debian
rpm alias -i --install --force-debian
rpm alias -U --upgrade --force-debian' >"$target/etc/popt"
ln -sf bash "$target/bin/sh"
rm -f "$target/etc/os-release"
cat >"$target/etc/os-release" <<'END'
NAME="Rocky Linux"
VERSION="9.6 (in words alone: a Debian underneath)"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.6"
END

mount -t tmpfs tmpfs "$target/tmp"
cp "$files/red-hat-base.spec" "$target/tmp/base.spec"
in_target rpmbuild -bb --define '_topdir /tmp/rpm' /tmp/base.spec
in_target sh -c 'rpm --install /tmp/rpm/RPMS/noarch/*.rpm'
umount "$target/tmp"

close_target
