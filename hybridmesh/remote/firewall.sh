#!/bin/sh
# Who may read metrics here: 15020 and 15090 are outside of mutual TLS. And that nobody gets past the proxy by IPv6. Run
# by the unit hybrid-mesh-metrics.service, from the scripts that the join has kept:
#   set     this machine itself, and the addresses of the setting `scrapers`; nobody else. By IPv6 nobody comes to a port
#           that is the proxy's. And connections are tracked
#   clear   takes the rules away
#   show    a line for each kind of address: whom the kernel lets read metrics now
# Rules of chains of our own, first in INPUT; nothing else of the machine's firewall is touched.
cd -- "$(dirname -- "$0")"
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CHAIN=HYBRID_MESH_METRICS
PORTS=15020,15090
CAPTURED=HYBRID_MESH_CAPTURED
CLUSTER_ENV=/var/lib/istio/envoy/cluster.env
REDIRECTED=15006 # where Envoy takes what Istio's rules have captured

setting() {
    cat "settings/$1" 2>/dev/null || :
}

scrapers=$(setting scrapers)

# rules FAMILY: the chain's, as iptables-restore reads them; it changes the whole chain at once
rules() {
    echo '*filter'
    echo ":$CHAIN - [0:0]"
    echo "-A $CHAIN -i lo -j RETURN"
    for source in $scrapers; do
        case $1:$source in
            6:*:*) echo "-A $CHAIN -s $source -j ACCEPT" ;;
            *:*:*) ;;
            4:*) echo "-A $CHAIN -s $source -j ACCEPT" ;;
        esac
    done
    echo "-A $CHAIN -j DROP"
    echo COMMIT
}

# jump TOOL VERB CHAIN [PLACE]: the rule of INPUT that leads to one of our chains
jump() {
    tool=$1 verb=$2 chain=$3 place=${4-}
    case $chain in
        "$CHAIN") set -- -m multiport --dports "$PORTS" ;;
        "$CAPTURED") set -- --syn ;;
    esac
    "$tool" -w 10 "$verb" INPUT ${place:+"$place"} -p tcp "$@" -j "$chain"
}

# lead TOOL CHAIN: through the chain, whose rules stand on stdin
lead() {
    "$1-restore" -w 10 --noflush
    jump "$1" -C "$2" 2>/dev/null || jump "$1" -I "$2" 1
}

# clear TOOL CHAIN
clear() {
    while jump "$1" -D "$2" 2>/dev/null; do :; done
    "$1" -w 10 -F "$2" 2>/dev/null || return 0
    "$1" -w 10 -X "$2"
}

cluster_env() {
    sed -n "s/^$1=//p" "$CLUSTER_ENV" 2>/dev/null | tr -d "'" | tr ',' ' '
}

# Istio captures IPv6 only where the first address of the machine is one (tools/common/config/config.go, getLocalIP), and
# never what comes to a link-local one alone. Where it does, a connection comes to REDIRECTED; else it would come to the
# application, in plain text and past every policy.
captured_rules() {
    echo '*filter'
    echo ":$CAPTURED - [0:0]"
    echo "-A $CAPTURED -i lo -j RETURN"
    ports=$(cluster_env ISTIO_INBOUND_PORTS)
    [ "$(cluster_env ISTIO_CUSTOM_IP_TABLES)" != true ] || ports=
    case $ports in
        '*')
            for port in $REDIRECTED $(cluster_env ISTIO_LOCAL_EXCLUDE_PORTS); do
                echo "-A $CAPTURED -p tcp --dport $port -j RETURN"
            done
            echo "-A $CAPTURED -p tcp -j REJECT --reject-with tcp-reset"
            ;;
        *[!0-9\ ]*) ;;
        *) for port in $ports; do echo "-A $CAPTURED -p tcp --dport $port -j REJECT --reject-with tcp-reset"; done ;;
    esac
    echo COMMIT
}

# What loads a host's own rules may have taken away that of hybrid-mesh-conntrack.service, by which connections are
# tracked: the next start of Istio would cut those that are open.
track() {
    set -- "$1" -w 10 -t nat
    if "$@" -C HYBRID_MESH -m conntrack --ctstate INVALID -j RETURN 2>/dev/null; then return; fi
    "$@" -N HYBRID_MESH 2>/dev/null || :
    "$@" -A HYBRID_MESH -m conntrack --ctstate INVALID -j RETURN || :
}

# show TOOL: a rule of ours in words, one of somebody else as it is
show() {
    jump "$1" -C "$CHAIN" 2>/dev/null || {
        echo 'open to all'
        return
    }
    "$1" -w 10 -S "$CHAIN" | awk -v prefix="-A $CHAIN " '
        index($0, prefix) != 1 { next }
        { rule = substr($0, length(prefix) + 1) }
        rule == "-i lo -j RETURN" { itself = 1; next }
        rule == "-j DROP" { closed = 1; next }
        rule ~ /^-s [^ ]+ -j ACCEPT$/ { split(rule, words, " "); open = open ", " words[2]; next }
        { others = others "; " rule }
        END {
            if (itself) open = ", itself" open
            print (!closed ? "open to all" : open == "" ? "closed to all" : "open to " substr(open, 3)) others
        }'
}

has_ipv6() {
    [ -d /proc/sys/net/ipv6 ] && command -v ip6tables-restore >/dev/null && ip6tables -w 10 -nL INPUT >/dev/null 2>&1
}

case ${1-} in
    set)
        rules 4 | lead iptables "$CHAIN"
        if has_ipv6; then
            rules 6 | lead ip6tables "$CHAIN"
            captured_rules | lead ip6tables "$CAPTURED"
        fi
        if systemctl is-active --quiet hybrid-mesh-conntrack; then
            track iptables
            if has_ipv6; then track ip6tables; fi
        fi
        ;;
    clear)
        clear iptables "$CHAIN"
        if has_ipv6; then
            clear ip6tables "$CHAIN"
            clear ip6tables "$CAPTURED"
        fi
        ;;
    show)
        echo "IPv4 $(show iptables)"
        if has_ipv6; then echo "IPv6 $(show ip6tables)"; fi
        ;;
    *)
        echo 'firewall.sh set, clear or show' >&2
        exit 2
        ;;
esac
