#!/bin/sh
# PID 1 of an instance: gives the new namespaces their private places and the bridges, then becomes supervisord.
# Arguments: the instance's folder, the Python to run, the services' network, the cut-off bridge's address, the
# other bridge's addresses.
set -eu
folder=$1
python=$2
services=$3
cutoff=$4
shift 4

hostname node
# A private /run holds the sockets of containerd and supervisord and the locks of systemd-nspawn and iptables.
mount -t tmpfs -o mode=755,size=256m tmpfs /run
mkdir -p /run/systemd /run/lock /run/netns
# kubelet writes below /var/log and containerd's CNI below /var/lib, whatever they are told.
mount --bind "$folder/log" /var/log
mount --bind "$folder/var-lib" /var/lib
for name in hosts resolv.conf; do
    target=$(readlink -m "/etc/$name")
    [ -e "$target" ] || { mkdir -p "$(dirname "$target")" && : >"$target"; }
    mount --bind "$folder/system/$name" "$target"
done

echo 1 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
# With an address of its own: else it takes the lowest of its ports', and with each machine that boots it may be another
# one, which everybody who talks to it learns after half a minute.
ip link add br0 address 02:00:00:00:00:01 type bridge
for address in "$@"; do
    ip addr add "$address" dev br0
done
ip link set br0 up
# A second network, which leads nowhere but where its firewall lets it: the firewall is there first.
iptables-restore <"$folder/system/firewall"
ip link add br1 address 02:00:00:00:00:02 type bridge
ip addr add "$cutoff" dev br1
ip link set br1 up
# What the node itself sends to a Service must have a route before kube-proxy's rules can give it another address.
ip route add "$services" dev br0

exec "$python" -m supervisor.supervisord --nodaemon --configuration "$folder/supervisord.conf"
