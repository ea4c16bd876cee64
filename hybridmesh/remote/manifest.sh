#!/bin/sh
# What the join left on this machine and nobody else should change: a line each, name, tab, state. join.sh keeps what
# it prints in /var/lib/hybrid-mesh/manifest; whoever compares that to what it prints now sees what was changed by
# hand. Reads only, and runs by itself: sh /var/lib/hybrid-mesh/scripts/manifest.sh
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

STATE=/var/lib/hybrid-mesh
DROP_IN=/etc/systemd/system/istio.service.d

line() {
    printf '%s\t%s\n' "$1" "$2"
}

content() {
    sum=$(sha256sum <"$1")
    printf '%.16s\n' "$sum"
}

# delivered PATH: content, mode and owner
delivered() {
    if [ -f "$1" ]; then
        line "file $1" "$(content "$1") $(stat -c '%a %U:%G' "$1")"
    else
        line "file $1" absent
    fi
}

# unit_file PATH: the content alone, for systemd does not care
unit_file() {
    if [ -f "$1" ]; then line "file $1" "$(content "$1")"; else line "file $1" absent; fi
}

# package_file PATH: size and time, for they are large. Its configuration files are the machine's to change.
package_file() {
    if [ -f "$1" ]; then
        line "package-file $1" "$(stat -Lc '%s bytes of %Y, %a %U:%G' "$1")"
    else
        line "package-file $1" absent
    fi
}

enabled() {
    line "unit $1" "$(systemctl is-enabled "$1" 2>/dev/null || :)"
}

package_version() {
    if command -v dpkg-query >/dev/null; then
        dpkg-query -W -f '${db:Status-Status} ${Version}' istio-sidecar 2>/dev/null
    else
        rpm -q --qf 'installed %{VERSION}-%{RELEASE}' istio-sidecar 2>/dev/null
    fi
}

hosts_block() {
    sed -n '/^# BEGIN hybrid-mesh$/,/^# END hybrid-mesh$/p' /etc/hosts | sed '1d;$d'
}

# What stands there may follow the gateway's name: what counts is that we wrote it.
hosts() {
    if hosts_block | cmp -s - "$STATE/hosts-known"; then
        line 'hosts block' 'as written'
    else
        line 'hosts block' "$(hosts_block | tr '\n' ',')"
    fi
}

# Others may have rules of their own; whether ours are in force is what counts.
firewall() {
    sh "$STATE/scripts/firewall.sh" show 2>/dev/null | while read -r family state; do
        line "firewall of 15020 and 15090, $family" "$state"
    done
}

line 'package istio-sidecar' "$(package_version)"
for path in /usr/local/bin/envoy /usr/local/bin/pilot-agent /usr/local/bin/istio-start.sh /lib/systemd/system/istio.service; do
    package_file "$path"
done
delivered /etc/istio/config/mesh
delivered /var/lib/istio/envoy/cluster.env
delivered "$DROP_IN/hybrid-mesh.conf"
delivered /etc/systemd/system/hybrid-mesh-conntrack.service
unit_file "$DROP_IN/hybrid-mesh-limits.conf"
for unit in network.service ready.service follow.service follow.timer logs.service logs.timer metrics.service; do
    unit_file "/etc/systemd/system/hybrid-mesh-$unit"
done
# What those units run
for script in lib.sh restart.sh upkeep.sh firewall.sh; do
    unit_file "$STATE/scripts/$script"
done
for unit in istio.service hybrid-mesh-conntrack.service hybrid-mesh-ready.service hybrid-mesh-logs.timer \
    hybrid-mesh-metrics.service; do
    enabled "$unit"
done
hosts
firewall
