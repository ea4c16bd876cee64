#!/bin/sh
# Runs one machine in the foreground, for supervisord: cgroups and root first, then systemd-nspawn.
# Arguments: the instance's cgroup name, the machine's folder, its read-only lower root, its name, its bridge.
set -eu
group=$1/machine-$4
folder=$2
lower=$3
name=$4
bridge=$5

# A cgroup of its own in every hierarchy that systemd uses: with --keep-unit all machines would otherwise share
# one, and one's `systemctl stop` would reach another's processes.
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    if [ -e "$hierarchy/cgroup.procs" ]; then
        mkdir -p "$hierarchy/$group"
        echo $$ >"$hierarchy/$group/cgroup.procs"
    fi
done

mkdir -p "$folder/upper" "$folder/work" "$folder/root"
mountpoint -q "$folder/root" ||
    mount -t overlay -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root"

# 133 is a guest's reboot: supervisord starts it again. Any other end, killed included, leaves it off.
systemd-nspawn --quiet --boot --keep-unit --register=no --link-journal=no --resolv-conf=off --timezone=off \
    --machine="$name" --directory="$folder/root" --network-bridge="$bridge" --console=read-only || exit $?
