#!/bin/sh
# Turn a copy of the machine root of root.sh into that of a cloud's instances: Google's agent, and no SSH.
#
#   cloud.sh TARGET DOWNLOADS FILES PACKAGE...
#
# FILES is the folder of this script. To be run as root in a mount and PID namespace of its own, as base.sh.
set -eu

target=$1 downloads=$2 files=$3
shift 3
# shellcheck source=lab/machine/chroot.sh
. "$files/chroot.sh"

open_target "$@"

in_target systemctl enable google-guest-agent.service google-startup-scripts.service google-shutdown-scripts.service
# Nobody logs in: what joins here joins by itself.
in_target systemctl disable ssh.service
in_target systemctl mask ssh.service ssh.socket
rm -f "$target"/etc/ssh/ssh_host_*

close_target
