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

# Whose content, mode and owner count
FILES="/etc/istio/config/mesh /var/lib/istio/envoy/cluster.env $DROP_IN/hybrid-mesh.conf
    /etc/systemd/system/hybrid-mesh-conntrack.service"
# Whose content alone counts: systemd and sh do not care for more
TEXTS=$DROP_IN/hybrid-mesh-limits.conf
for unit in network.service ready.service follow.service follow.timer logs.service logs.timer metrics.service; do
    TEXTS="$TEXTS /etc/systemd/system/hybrid-mesh-$unit"
done
for script in checks join leave lib manifest ready restart self_units switch upkeep firewall; do TEXTS="$TEXTS $STATE/scripts/$script.sh"; done
# Whose size and time count, for they are large. The package's configuration files are the machine's to change.
PROGRAMS='/usr/local/bin/envoy /usr/local/bin/pilot-agent /usr/local/bin/istio-start.sh /lib/systemd/system/istio.service'
UNITS='istio.service hybrid-mesh-conntrack.service hybrid-mesh-ready.service hybrid-mesh-logs.timer
    hybrid-mesh-metrics.service'

there() {
    for path in "$@"; do
        if [ -f "$path" ]; then printf '%s\n' "$path"; fi
    done
}

# One process for each question, not for each file: a join asks, and a machine may be small.
# shellcheck disable=SC2046,SC2086 # paths without blanks
files() {
    {
        printf 'file %s\n' $FILES
        printf 'text %s\n' $TEXTS
        printf 'program %s\n' $PROGRAMS
        sha256sum $(there $FILES $TEXTS)
        stat -c 'mode %n %a %U:%G' $(there $FILES)
        stat -Lc 'state %n %s bytes of %Y, %a %U:%G' $(there $PROGRAMS)
    } 2>/dev/null </dev/null | awk '
        $1 == "file" || $1 == "text" || $1 == "program" { kinds[$2] = $1; paths[++count] = $2; next }
        $1 == "mode" { modes[$2] = " " $3 " " $4; next }
        $1 == "state" { path = $2; sub(/^state [^ ]+ /, ""); states[path] = $0; next }
        { states[$2] = substr($1, 1, 16) }
        END {
            for (i = 1; i <= count; i++) {
                path = paths[i]
                name = (kinds[path] == "program" ? "package-file " : "file ") path
                print name "\t" (path in states ? states[path] modes[path] : "absent")
            }
        }'
}

enabled() {
    # shellcheck disable=SC2086 # names
    set -- $UNITS
    words=$(systemctl is-enabled "$@" 2>/dev/null)
    for word in $words; do
        [ $# = 0 ] || line "unit $1" "$word"
        [ $# = 0 ] || shift
    done
    # It says no more after one that is not there.
    for unit in "$@"; do line "unit $unit" "$(systemctl is-enabled "$unit" 2>/dev/null)"; done
}

# By whichever keeps the package: a system of rpm's may have dpkg for other uses.
package_version() {
    dpkg-query -W -f '${db:Status-Status} ${Version}' istio-sidecar 2>/dev/null ||
        rpm -q --qf 'installed %{VERSION}-%{RELEASE}' istio-sidecar 2>/dev/null | grep -v 'not installed'
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
files
enabled
hosts
firewall
