#!/bin/sh
# What is there on this machine, for `status` and `doctor`: reads, and changes nothing. It comes on stdin, after
# functions of lib.sh (PROBE_FUNCTIONS in __init__.py), and lines that set
#   MESH_NAME   a name that only the mesh can resolve; may be empty
#   BUNDLE      yes: whole logs and Envoy's configuration, too
# Prints sections: a line `@@ NAME`, then what belongs to it. No secret: of a token its claims, of a key its mode.
set -u
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
no_proxy="${no_proxy:-${NO_PROXY-}}"
no_proxy="${no_proxy:+$no_proxy,}localhost,127.0.0.1"
export PATH LC_ALL no_proxy

STATE=/var/lib/hybrid-mesh
ADMIN=http://127.0.0.1:15000
TOKEN=/run/secrets/tokens/istio-token

# section NAME COMMAND…: those whose command fails are in UNREAD, for to print nothing may mean that there is nothing.
UNREAD=
section() {
    section=$1
    printf '@@ %s\n' "$section"
    shift
    {
        code=$(
            {
                {
                    "$@" 2>/dev/null </dev/null 3>&- 4>&-
                    echo $? >&4
                } | without_keys | scrub | awk '{ sub(/^@@/, " @@"); print }' >&3
            } 4>&1
        )
    } 3>&1
    [ "$code" = 0 ] || UNREAD="$UNREAD $section"
}

# Private keys that somebody has logged, also where the beginning is cut off, so that base64 waits for what follows it.
# One that has no end is taken to be a hundred lines.
without_keys() {
    awk '
        function flush() { printf "%s", held; held = "" }
        /END [A-Z ]*PRIVATE KEY-----/ { if (!inside) print "<private key taken out>"; held = ""; inside = 0; next }
        /PRIVATE KEY-----/ { flush(); print "<private key taken out>"; inside = 100; next }
        inside { inside--; next }
        /^[A-Za-z0-9+\/=]+$/ { held = held $0 "\n"; next }
        { flush(); print }
        END { flush() }'
}

get() {
    if command -v curl >/dev/null; then
        unredirected curl -fsS --max-time 5 "$1"
    elif command -v wget >/dev/null; then
        unredirected wget -q -O - -T 5 -t 1 "$1"
    else
        unredirected python3 -IBc 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())' "$1"
    fi
}

# An Envoy that hangs is waited for once, not at each question.
find_admin() {
    if get "$ADMIN/server_info" >/dev/null 2>&1; then ADMIN_ANSWERS=yes; else ADMIN_ANSWERS=no; fi
}

admin() {
    [ "$ADMIN_ANSWERS" = no ] || get "$ADMIN/$1"
}

# open_port ADDRESS PORT: "ADDRESS PORT open", or why not. Past the proxy.
open_port() {
    said=$(can_connect "$1" "$2" 3 2>&1) && said=open
    case $said in
        open) ;;
        *refused*) said='connection refused' ;;
        *'No route'* | *unreachable*) said='no route' ;;
        *) said='no answer within 3 s' ;;
    esac
    printf '%s %s %s\n' "$1" "$2" "$said"
}

system() {
    uname -n
    uname -m
    sed -n 's/^ID=//p' /etc/os-release | tr -d '"'"'"
    sed -n 's/^VERSION_ID=//p' /etc/os-release | tr -d '"'"'"
}

units() {
    # shellcheck disable=SC2046 # words
    timeout 10 systemctl show --property=Id,LoadState,ActiveState,SubState,Result,NRestarts,UnitFileState,ExecMainStatus \
        istio.service hybrid-mesh-conntrack.service hybrid-mesh-ready.service hybrid-mesh-logs.timer \
        $(cat "$STATE/scripts/settings/app-units" 2>/dev/null)
}

starting() {
    timeout 10 systemctl list-units --all --no-legend --plain 'hybrid-mesh-start-*'
}

# By whichever keeps the package: a system of rpm's may have dpkg for other uses.
version() {
    {
        dpkg-query -W -f '${db:Status-Status} ${Version}\n' istio-sidecar ||
            rpm -q --qf 'installed %{VERSION}-%{RELEASE}\n' istio-sidecar
    } | sed -n 's/^installed //p'
}

joined() {
    [ ! -d "$STATE/before" ] || echo yes
}

addresses() {
    shown=$(ip -o addr show up) || return
    printf '%s\n' "$shown" | awk '{ sub(/\/.*/, "", $4); print $4 }' | sort -u
}

hosts_block() {
    sed -n '/^# BEGIN hybrid-mesh$/,/^# END hybrid-mesh$/p' /etc/hosts | sed '/^# /d'
}

key() {
    stat -c '%a %U' /etc/certs/key.pem
}

# Claims alone prove nothing to anybody.
claims() {
    [ ! -f "$TOKEN" ] || as_proxy cut -s -d . -f 2 "$TOKEN"
}

ready() {
    get http://127.0.0.1:15021/healthz/ready >/dev/null
    code=$?
    case $code in
        0) echo yes ;;
        126 | 127) return "$code" ;; # nothing there that can ask
        *) echo no ;;
    esac
}

# Istio's, and that of hybrid-mesh-conntrack.service. Both kinds of iptables: pilot-agent picks one by what it finds. One
# of them may be of no use here.
rules() {
    answers=none
    for kind in -legacy -nft ''; do
        command -v "iptables$kind-save" >/dev/null || continue
        shown=$(timeout 5 "iptables$kind-save" -t nat)
        case $? in
            0) answers=some ;;
            124) return 124 ;;
        esac
        printf '%s\n' "$shown" | grep -e ISTIO_ -e '^-A HYBRID_MESH '
    done
    [ "$answers" = some ]
}

listeners() {
    shown=$(ss -Hltnp) || return
    printf '%s\n' "$shown" | awk '{ print $4, $NF }' | sort -u
}

# How many connections the kernel keeps in mind, and how many it can: nothing where it keeps none
tracked() {
    cat /proc/sys/net/netfilter/nf_conntrack_count /proc/sys/net/netfilter/nf_conntrack_max
}

connections() {
    ss -Hnt state established dport = :15012 | awk '{ print $4 }' | sort -u
}

gateways() {
    hosts_block | awk '{ print $1 }' | sort -u | while read -r address; do open_port "$address" 15012; done
}

# Whether TLS with istiod comes about where a connection does: lines as of open_port. By the root certificate that the
# agent goes by, and past the proxy. What curl says of HTTP, or of itself, says nothing of that.
handshakes() {
    command -v curl >/dev/null && [ -s /etc/certs/root-cert.pem ] || return 0
    hosts_block | head -n 2 | while read -r address name _; do
        can_connect "$address" 15012 3 >/dev/null 2>&1 || continue
        code=0
        said=$(unredirected curl -sS -o /dev/null -w '\ntls=%{time_appconnect}\n' --max-time 6 --noproxy '*' \
            --cacert /etc/certs/root-cert.pem --resolve "$name:15012:$address" "https://$name:15012/" 2>&1) || code=$?
        why=$(printf '%s\n' "$said" | sed -n 's/^curl: ([0-9]*) //p' | head -n 1)
        case $(printf '%s\n' "$said" | sed -n 's/^tls=//p'):$code in
            *[1-9]*:*) why=open ;;
            *:28) why='no answer within 6 s' ;;
            *:35 | *:56) why="broken off: $why" ;;
            *:51 | *:60) why="refused: $why" ;;
            *) continue ;;
        esac
        printf '%s 15012 %s\n' "$address" "$why"
    done
}

# Many a firewall lets DNS pass by UDP alone: who takes no connection is asked for the root's servers. Any answer will do.
nameservers() {
    sed -n 's/^nameserver[[:blank:]]*//p' /etc/resolv.conf | while read -r address _; do
        tried=$(open_port "$address" 53)
        # shellcheck disable=SC2016 # bash's own
        [ "$tried" = "$address 53 open" ] || [ -z "$(unredirected timeout 3 bash -c 'exec 3<>"/dev/udp/$0/$1" &&
            printf "hm\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1" >&3 && head -c 1 <&3' "$address" 53 2>/dev/null)" ] ||
            tried="$address 53 open"
        printf '%s\n' "$tried"
    done
}

# Through the agent, where it answers DNS
mesh_name() {
    [ -z "$MESH_NAME" ] || timeout 6 getent ahosts "$MESH_NAME" | cut -d ' ' -f 1 | sort -u
}

disks() {
    df -Pk / /etc /var/lib /var/log /var/log/istio /run /tmp | awk 'NR > 1 { print $6, $2, $4 }' | sort -u
}

# Folders that the proxy, its agent and our own scripts write to, and cannot: not even root, on a read-only file system
read_only() {
    for folder in /etc/certs /etc/istio/proxy /var/lib/istio/envoy /var/log/istio "$STATE" /run /tmp; do
        [ ! -d "$folder" ] || [ -w "$folder" ] || echo "$folder"
    done
}

inodes() {
    df -Pi / /etc /var/lib /var/log /var/log/istio /run /tmp | awk 'NR > 1 && $2 > 0 { print $6, $2, $4 }' | sort -u
}

stats() {
    admin "stats?filter=(update_rejected|rbac\.denied|listener_create_failure|server\.(state|uptime))" |
        awk '$2 != "0"'
}

outbound() {
    admin clusters | grep -E '^outbound.*::rq_total::' | head -n 5000
}

# Where Envoy sends what came for a port: lines `inbound|PORT HOST:PORT`, and `inbound|PORT default_priority` for each
inbound() {
    admin clusters | sed -n 's/^\(inbound|[0-9]*\)|[^:]*::\(.*\)::\(max_connections\|rq_total\)::.*/\1 \2/p' | sort -u
}

# access_log WORD: the last lines with it, where there is an access log at all
access_log() {
    as_proxy tail -n 2000 /var/log/istio/istio.log | grep -F "$1" | tail -n 5 | cut -c 1-500
}

# A script that is missing was removed; one that hangs says nothing.
manifest() {
    timeout 20 sh "$STATE/scripts/manifest.sh"
    case $? in 124) return 124 ;; *) return 0 ;; esac
}

# tail_of FILE LINES WIDTH
tail_of() {
    tail -n "$2" "$1" | cut -c "1-$3"
}

# The same of a file in a folder of the proxy's, as the proxy: a link there shows nothing that is root's alone.
proxy_tail() {
    as_proxy tail -n "$2" "$1" | cut -c "1-$3"
}

environment() {
    for path in /etc/certs /run/secrets /run/secrets/tokens /etc/istio/config /etc/istio/proxy /var/lib/istio/envoy \
        "$STATE" /etc/systemd/system/istio.service.d; do
        ls -la "$path"
    done
}

bundle() {
    section log/istio.log proxy_tail /var/log/istio/istio.log 5000 2000
    section log/istio.err.log proxy_tail /var/log/istio/istio.err.log 2000 2000
    section log/hybrid-mesh.log tail_of /var/log/hybrid-mesh.log 2000 2000
    section log/journal.log timeout 20 journalctl --no-pager --lines=1000 --unit=istio --unit='hybrid-mesh-*'
    section log/kernel.log timeout 20 journalctl --no-pager --lines=200 --dmesg
    section state/units.txt timeout 20 systemctl status --no-pager --lines=0 istio 'hybrid-mesh-*'
    section state/iptables.txt rules
    section state/addresses.txt ip address
    section state/routes.txt ip route
    section state/sockets.txt ss -tanp
    section state/files.txt environment
    section state/memory.txt cat /proc/meminfo
    section config/mesh.yaml cat /etc/istio/config/mesh
    section config/resolv.conf cat /etc/resolv.conf
    section config/hosts cat /etc/hosts
    section config/sidecar.env cat /var/lib/istio/envoy/sidecar.env
    section envoy/config_dump.json admin "config_dump?include_eds"
    section envoy/clusters.txt admin clusters
    section envoy/listeners.txt admin listeners
    section envoy/server_info.json admin server_info
    section envoy/stats.txt admin "stats?usedonly"
}

main() {
    find_admin
    section clock date +%s
    section system system
    section units units
    section starting starting
    section addresses addresses
    section accepted cat "$STATE/scripts/settings/accept"
    section version version
    section joined joined
    section generation cat "$STATE/generation"
    section cluster.env cat /var/lib/istio/envoy/cluster.env
    section hosts-block hosts_block
    section hosts-wanted cat "$STATE/hosts"
    section certificate as_proxy cat /etc/certs/cert-chain.pem
    section root-certificate as_proxy cat /etc/certs/root-cert.pem
    section key key
    section claims claims
    section certs admin certs
    section ready ready
    section rules rules
    section listeners listeners
    section tracked tracked
    section connections connections
    section gateways gateways
    section handshakes handshakes
    section nameservers nameservers
    section mesh-name mesh_name
    section disks disks
    section inodes inodes
    section read-only read_only
    section stats stats
    section outbound outbound
    section inbound inbound
    section denied access_log rbac_access_denied
    section unmatched access_log filter_chain_not_found
    section manifest manifest
    section manifest-recorded cat "$STATE/manifest"
    section agent-log proxy_tail /var/log/istio/istio.log 60 500
    section agent-errors proxy_tail /var/log/istio/istio.err.log 20 500
    [ "$BUNDLE" != yes ] || bundle
    section unread echo "$UNREAD"
    section end date +%s
}

main </dev/null
