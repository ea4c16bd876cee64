#!/bin/sh
# Prints all that makes up this machine, sorted, one fact a line, so that `diff` of two listings tells what changed:
# packages, users, groups, unit files, iptables rules, policy routes, listeners, and every file with its mode, owner
# and hash. Run it as root, for example: ssh root@vm sh -s <tests/e2e/machine_listing.sh
#
# Not listed, by name, because a machine writes there while nothing of note happens, or as the trace of a package
# that came and went:
ALLOWED='
/dev /proc /sys /run /tmp /var/tmp  the kernel, the running system and scratch space
/var/log/journal                    the journal
/var/log/btmp /var/log/wtmp         logins
/var/log/lastlog /var/log/faillog   logins; useradd and userdel touch both
/var/log/dpkg.log                   what dpkg did
/var/log/alternatives.log           what dpkg did
/var/log/apt                        what apt did
/var/log/dnf.log /var/log/yum.log   what dnf or yum did
/var/lib/dpkg/status-old            backup that dpkg makes
/var/lib/dpkg/lock                  lock of dpkg
/var/lib/dpkg/lock-frontend         lock of dpkg
/var/lib/dpkg/triggers/Lock         lock of dpkg
/var/lib/rpm /usr/lib/sysimage/rpm  database of rpm; the packages are listed
/var/lib/apt/lists                  what apt-get update fetched
/var/lib/apt/extended_states        note that apt keeps of automatic packages
/var/cache                          caches
/etc/passwd- /etc/shadow-           backups that useradd and userdel make
/etc/group- /etc/gshadow-           backups that useradd and userdel make
/etc/subuid- /etc/subgid-           backups that useradd and userdel make
/etc/.pwd.lock                      lock of useradd and userdel
/home/*/.sudo_as_admin_successful   mark that sudo makes at the first use
/var/lib/systemd                    random seed, timer stamps, catalogue
'
set -eu
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

label() {
    sed "s/^/$1 /" | sort
}

packages() {
    ! command -v dpkg-query >/dev/null || dpkg-query -W -f '${binary:Package} ${Version} ${db:Status-Status}\n'
    ! command -v rpm >/dev/null || rpm -qa
}

rules() {
    for kind in '' -legacy -nft; do
        for save in "iptables$kind-save" "ip6tables$kind-save"; do
            ! command -v "$save" >/dev/null || "$save" 2>/dev/null | sed -n "s/^-A/$save -A/p" # empty chains stay
        done
    done
}

files() {
    set -f
    set -- # find's arguments that leave the allowed ones out
    for path in $(printf '%s' "$ALLOWED" | grep -o '/[^ ]*'); do
        set -- "$@" -path "$path" -prune -o
    done
    set +f
    # shellcheck disable=SC2185 # the root is given
    find / -xdev "$@" -print0 | sort -z | xargs -0 stat --printf '%A %U:%G %n\t%N\n' | sed 's/\t.* -> / -> /; s/\t.*//'
    find / -xdev "$@" -type f -print0 | sort -z | xargs -0 sha256sum
}

packages | label package
getent passwd | label user
getent group | label group
systemctl list-unit-files --no-legend --no-pager --plain | awk '{ print $1, $2 }' | label unit-file
systemctl list-units --failed --no-legend --no-pager --plain | awk '{ print $1 }' | label failed-unit
rules | label rule
ip rule | label policy-route
ss -Hlntup | awk '{ print $1, $5 }' | label listener
files | label file
