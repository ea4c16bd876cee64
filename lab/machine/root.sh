#!/bin/sh
# Turn a copy of the Debian root of base.sh into the read-only lower layer of every machine.
#
#   root.sh TARGET DOWNLOADS FILES PACKAGE...
#
# TARGET holds the copy, DOWNLOADS keeps fetched packages, FILES is the folder of this script. To be run as
# root in a mount and PID namespace of its own, as base.sh. What differs from machine to machine (host keys,
# authorized keys, address, name, resolver) is left empty: the environment fills it in.
set -eu

target=$1 downloads=$2 files=$3
shift 3
# shellcheck source=lab/machine/chroot.sh
. "$files/chroot.sh"

open_target "$@"

# Users: root and admin, both by key alone. An account with "!" for a password is locked for sshd, "*" is not.
in_target useradd --create-home --shell /bin/bash --password '*' admin
in_target useradd --system --no-create-home --shell /usr/sbin/nologin echo
printf 'admin ALL=(ALL:ALL) NOPASSWD: ALL\n' >"$target/etc/sudoers.d/admin"
chmod 0440 "$target/etc/sudoers.d/admin"
install -d -m 0700 "$target/root/.ssh" "$target/home/admin/.ssh"
in_target chown admin:admin /home/admin/.ssh

install -D -m 0644 "$files/sshd.conf" "$target/etc/ssh/sshd_config.d/lab.conf"
install -D -m 0644 "$files/journald.conf" "$target/etc/systemd/journald.conf.d/lab.conf"
install -D -m 0755 "$files/echo_app.py" "$target/usr/local/bin/echo-app"
install -D -m 0644 "$files/echo.service" "$target/etc/systemd/system/echo.service"
install -D -m 0644 "$files/hosts" "$target/etc/hosts"
install -m 0644 /dev/null "$target/etc/default/locale" # every login complains without one
install -d -m 2755 "$target/var/log/journal"
in_target chgrp systemd-journal /var/log/journal

in_target systemctl enable systemd-networkd.service ssh.service echo.service
in_target systemctl disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
in_target systemctl mask systemd-networkd-wait-online.service
in_target systemctl set-default multi-user.target

# Each machine makes or is given its own.
rm -f "$target"/etc/ssh/ssh_host_*
: >"$target/etc/machine-id"
rm -f "$target/var/lib/dbus/machine-id"

close_target
