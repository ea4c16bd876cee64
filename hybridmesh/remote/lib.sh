# shellcheck shell=sh disable=SC2034 # the scripts that source this use the names
# What join.sh, ready.sh and leave.sh share. Each runs as root inside the folder of an unpacked payload, with
#   files/<name>      the bootstrap files, byte for byte
#   settings/<name>   one line each; read as data, never evaluated
# Every step logs one line to stderr and to $LOG; a failure names machine, step and remedy. No secret is logged.

set -eu
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
no_proxy="${no_proxy:-${NO_PROXY-}}"
no_proxy="${no_proxy:+$no_proxy,}localhost,127.0.0.1"
export PATH LC_ALL no_proxy

STATE=/var/lib/hybrid-mesh # what was here before us, and what we delivered: see docs/on-the-vm.md
LOG=/var/log/hybrid-mesh.log
BROUGHT=/run/hybrid-mesh-scripts # of a machine that has no $STATE yet: see bring.sh
PACKAGE=istio-sidecar
HOSTS=/etc/hosts
[ ! -L "$HOSTS" ] || HOSTS=$(readlink -f "$HOSTS")
DROP_IN=/etc/systemd/system/istio.service.d
TRACKER=hybrid-mesh-conntrack.service
# What runs upkeep.sh and firewall.sh
UPKEEP='hybrid-mesh-network.service hybrid-mesh-ready.service hybrid-mesh-follow.service hybrid-mesh-follow.timer
    hybrid-mesh-logs.service hybrid-mesh-logs.timer hybrid-mesh-metrics.service
    hybrid-mesh-token.service hybrid-mesh-token.timer hybrid-mesh-farewell.service'
# What agent.sh makes
AGENT=/var/lib/hybrid-mesh-agent
AGENT_UNIT=hybrid-mesh-agent.service
AGENT_PORT=19090
TOKENS=/run/secrets/tokens
read -r HOST </proc/sys/kernel/hostname
STEP=start
FAILED=
echo $$ >pid

trap 'unexpected $?' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Seconds since this machine started, in NOW: no correction of its clock moves them
now() {
    read -r NOW _ </proc/uptime
    NOW=${NOW%.*}
}

# is_past LIMIT, which was made of NOW
is_past() {
    now
    [ "$NOW" -ge "$1" ]
}

# within SECONDS COMMAND…: until it succeeds; fails once they are over
within() {
    now
    WAIT_END=$((NOW + $1))
    shift
    until "$@"; do
        ! is_past "$WAIT_END" || return 1
        sleep 0.3
    done
}

# The time of day, in STAMP, asked for once a second
stamp() {
    now
    [ "$NOW" = "${STAMPED-}" ] || {
        STAMP=$(date -u +%Y-%m-%dT%H:%M:%SZ)
        STAMPED=$NOW
    }
}

log() {
    case $* in
        *eyJ* | *earer* | *://*@*) set -- "$(printf '%s' "$*" | scrub)" ;;
    esac
    printf 'hybrid-mesh: %s\n' "$*" >&2
    if [ "${HYBRID_MESH_CONSOLE-}" ]; then
        { printf 'hybrid-mesh: %s\n' "$*" >"$HYBRID_MESH_CONSOLE"; } 2>/dev/null || :
    fi
    if [ -d "$STATE" ]; then
        stamp
        printf '%s %s: %s\n' "$STAMP" "${0##*/}" "$*" >>"$LOG" || :
    fi
}

step() {
    STEP=$1
    log "step: $1${2:+: $2}"
}

# Tokens (three base64url words, the first the JSON of a header), authorization headers, passwords in addresses
scrub() {
    sed -e 's/eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*/<token>/g' \
        -e 's/[Bb]earer  *[^ "]*/Bearer <token>/g' -e 's,://[^/?# ]*@,://,g'
}

# fail WHAT REMEDY
fail() {
    FAILED=yes
    log "FAILED on $HOST at step $STEP: $1"
    log "remedy: $2"
    exit 1
}

unexpected() {
    [ "$1" = 0 ] || [ "$FAILED" ] || log "FAILED on $HOST at step $STEP: unexpected exit $1; run it again, or see $LOG"
}

# Whether this machine asks for its token by itself: see token.sh
gets_own_token() {
    [ -n "$(setting api-server)" ]
}

# quietly COMMAND…: its output goes to the file `output`, and to stderr only if it fails
quietly() {
    "$@" >output 2>&1 </dev/null || {
        set -- $?
        tail -n 20 output | scrub >&2
        return "$1"
    }
}

# setting NAME [DEFAULT]
setting() {
    value=
    [ ! -f "settings/$1" ] || IFS= read -r value <"settings/$1" || :
    printf '%s\n' "${value:-${2-}}"
}

digest() {
    sha256sum <"$1" | cut -d ' ' -f 1
}

# Of a large file: openssl, where it is, asks the processor for SHA-256, and takes a sixth of the time.
large_digest() {
    sum=$(openssl dgst -sha256 -r <"$1" 2>/dev/null) || sum=$(sha256sum <"$1")
    printf '%s\n' "${sum%% *}"
}

# One at a time on this machine; the lock goes with the process, and is that of the scripts that it runs, too.
only_one() {
    if [ "${HYBRID_MESH_LOCKED-}" ] || ! command -v flock >/dev/null; then return; fi
    exec 9>/run/hybrid-mesh.lock
    flock -w 120 9 || fail 'another join or leave is running here' 'wait for it to end, or see: ps -ef | grep hybrid-mesh'
    export HYBRID_MESH_LOCKED=yes
}

# Payloads of runs that were killed, a token in them
remove_stale_payloads() {
    for folder in /run/hybrid-mesh.????????; do
        [ ! -f "$folder/pid" ] || kill -0 "$(cat "$folder/pid")" 2>/dev/null || rm -rf "$folder"
    done
}

proxy_group() {
    getent group istio-proxy | cut -d : -f 3
}

# Istio redirects no traffic of its own group: a download works whatever state the proxy here is in.
unredirected() {
    group=${PROXY_GROUP:-$(proxy_group)}
    if [ "$group" ] && command -v setpriv >/dev/null; then
        setpriv --regid "$group" --clear-groups "$@"
    else
        "$@"
    fi
}

# fetch METHOD URL SECONDS: the answer's body on stdout, fails on a status of 400 or more
fetch() {
    if command -v curl >/dev/null; then
        unredirected curl -fsSL --connect-timeout 10 -m "$3" -X "$1" --url "$2"
    elif command -v wget >/dev/null; then
        if [ "$1" = POST ]; then set -- "$1" "$2" "$3" --post-data=; fi
        unredirected timeout "$3" wget -q -O - -T 10 -t 1 --no-hsts ${4+"$4"} -- "$2"
    else
        unredirected timeout "$3" python3 -IB -c '
import shutil, sys, urllib.request
request = urllib.request.Request(sys.argv[2], method=sys.argv[1])
with urllib.request.urlopen(request, timeout=10) as answer:
    shutil.copyfileobj(answer, sys.stdout.buffer)' "$1" "$2"
    fi
}

# deb or rpm, by the system's own word; empty for any other
package_family() {
    ids=' '
    while IFS='=' read -r key words; do
        case $key in ID | ID_LIKE) ids="$ids$words " ;; esac
    done </etc/os-release
    case $ids in
        *[' "']debian[' "']* | *[' "']ubuntu[' "']*) echo deb ;;
        *[' "']rhel[' "']* | *[' "']fedora[' "']* | *[' "']centos[' "']*) echo rpm ;;
    esac
}

# As the settings call a kind of VM: family and architecture
package_kind() {
    case $(uname -m) in
        x86_64) echo "$(package_family)-amd64" ;;
        aarch64) echo "$(package_family)-arm64" ;;
        *) echo "$(package_family)-$(uname -m)" ;;
    esac
}

# The version of the sidecar package, if it is wholly installed
installed_version() {
    case $(package_family) in
        deb) dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$PACKAGE" 2>/dev/null | sed -n 's/^installed //p' ;;
        rpm) rpm -q --qf '%{VERSION}-%{RELEASE}\n' "$PACKAGE" 2>/dev/null | grep -v 'not installed' || : ;;
    esac
}

all_packages() {
    case $(package_family) in
        deb) dpkg-query -W -f '${db:Status-Status} ${binary:Package}\n' | sed -n 's/^installed //p' ;;
        rpm) rpm -qa --qf '%{NAME}\n' ;;
    esac | sort -u
}

# Adds the names on stdin to the packages that came with a join, and go with the machine's departure.
record_added_packages() {
    cat - "$STATE/added-packages" 2>/dev/null | sort -u >added
    write_file added "$STATE/added-packages" 600 root:root
    rm -f "$STATE/adding-packages"
}

# Of an installation that was cut off, those that were asked for by name alone: what else came since then may be
# somebody's own.
record_cut_off_packages() {
    [ -e "$STATE/adding-packages" ] || return 0
    all_packages | grep -xFf "$STATE/adding-packages" >cut-off || :
    record_added_packages <cut-off
}

# After a package command failed: was another one holding the lock, and is there time left?
locked_until() {
    grep -Eq '(^|[^[:alnum:]])lock([^[:alnum:]]|$)' output && ! is_past "$1"
}

# once_unlocked END COMMAND…: a package command, again and again while another one holds the lock
once_unlocked() {
    UNLOCKED_BY=$1
    shift
    until quietly "$@"; do
        locked_until "$UNLOCKED_BY" || return 1
        sleep 2
    done
}

# install_file FILE: the sidecar's package, another version of it too; waits for the package manager's lock
install_file() {
    seconds=$(setting install-timeout-seconds 300)
    now
    case $(package_family) in
        deb) set -- dpkg --force-confdef --force-confold --install "$1" ;;
        rpm) set -- rpm -U --oldpackage --replacepkgs "$1" ;;
    esac
    once_unlocked $((NOW + seconds)) timeout "$seconds" "$@"
}

# As the proxy's user: in a folder of its own that may lay a link at any moment, also where root has just seen none.
as_proxy() {
    setpriv --reuid istio-proxy --regid istio-proxy --clear-groups "$@"
}

# ensure_folder PATH MODE OWNER, in a folder of root's
ensure_folder() {
    install -d -m "$2" -o "${3%:*}" -g "${3#*:}" "$1"
}

# The agent makes others in the folder above, which is the proxy's for that.
ensure_token_folder() {
    ensure_folder "${TOKENS%/*}" 755 istio-proxy:root
    if [ -L "$TOKENS" ]; then
        log "note: $TOKENS is a link of $(stat -c %U "$TOKENS"), to $(readlink "$TOKENS"): it is removed"
        rm -f "$TOKENS"
    fi
    mkdir -p "$TOKENS"
    chown -h istio-proxy:istio-proxy "$TOKENS"
    as_proxy chmod 700 "$TOKENS"
}

# The package gives these to the proxy, which only reads there; and its start runs sidecar.env and cluster.env as root.
guard_folders() {
    ensure_folder /var/lib/istio/envoy 755 root:root
    ensure_folder /etc/istio/config 755 root:root
}

# write_file SOURCE TARGET MODE OWNER: atomic; nobody else can read it at any moment, nor put a link in its way
# A full disk costs nothing of what is there, also where the caller goes on after a failure.
write_file() {
    case $4 in
        istio-proxy:*) write_as_proxy "$1" "$2" "$3" ;;
        *) write_as_root "$@" ;;
    esac || return 1
    if command -v restorecon >/dev/null; then restorecon "$2" || :; fi
}

write_as_root() {
    if ! { install -T -m "$3" -o "${4%:*}" -g "${4#*:}" "$1" "$2.hybrid-mesh-new" && mv -fT "$2.hybrid-mesh-new" "$2"; }; then
        rm -f "$2.hybrid-mesh-new"
        return 1
    fi
}

write_as_proxy() {
    # shellcheck disable=SC2016 # the inner shell's own
    as_proxy /bin/sh -c '
        umask 077
        rm -f "$0.hybrid-mesh-new"
        cat >"$0.hybrid-mesh-new" && chmod "$1" "$0.hybrid-mesh-new" && mv -fT "$0.hybrid-mesh-new" "$0" && exit
        rm -f "$0.hybrid-mesh-new"
        exit 1' "$2" "$3" <"$1"
}

# /etc/hosts without our block. A block whose end someone took away costs no line that follows it.
hosts_without_block() {
    awk '
        $0 == "# BEGIN hybrid-mesh" { printf "%s", held; held = ""; inside = 1; next }
        inside && $0 == "# END hybrid-mesh" { held = ""; inside = 0; next }
        inside { held = held $0 "\n"; next }
        { print }
        END { printf "%s", held }' "$HOSTS"
}

is_address() {
    case $1 in
        *:*) return 0 ;;
        *[!0-9.]*) return 1 ;;
    esac
}

# All addresses of a host name, past the proxy, whose DNS may wait for us
addresses_of() {
    unredirected timeout 15 getent ahosts "$1" | cut -d ' ' -f 1 | sort -u
}

# A hosts file, from one that may have host names in the place of addresses; fails if one of them has none now
hosts_lines() {
    while read -r address name; do
        if is_address "$address"; then
            printf '%s %s\n' "$address" "$name"
            continue
        fi
        found=$(addresses_of "$address") || :
        [ -n "$found" ] || return 1
        printf '%s\n' "$found" | sed "s/\$/ $name/"
    done <"$1"
}

# set_hosts LINES: makes them our block in /etc/hosts. It stays where it is, if it is right.
set_hosts() {
    { echo '# BEGIN hybrid-mesh' && cat "$1" && echo '# END hybrid-mesh'; } >block || return 1
    sed -n '/^# BEGIN hybrid-mesh$/,/^# END hybrid-mesh$/p' "$HOSTS" >present
    if cmp -s block present; then return; fi
    log "write $HOSTS: $(paste -sd , "$1")"
    hosts_without_block >other-hosts && cat other-hosts block >new-hosts || return 1
    write_file new-hosts "$HOSTS" "$(stat -c '%a' "$HOSTS")" "$(stat -c '%u:%g' "$HOSTS")"
}

# can_connect ADDRESS PORT SECONDS, past the proxy; says why not
can_connect() {
    if command -v bash >/dev/null; then
        # shellcheck disable=SC2016 # bash's own
        unredirected timeout "$3" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2"
    else
        unredirected timeout "$3" python3 -IB -c '
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])))' "$1" "$2"
    fi
}

# An answer of DNS may name some of a name's addresses only. Those of before stay in their places while a gateway listens
# there, until they were missing from so many answers in a row; lines COUNT ADDRESS NAME of what is missing go to the
# file `absent`.
MISSING_ANSWERS=20
with_earlier_lines() {
    : >absent
    { grep -vxFf "$1" "$STATE/hosts-known" 2>/dev/null || :; } | while read -r address name; do
        can_connect "$address" 15012 3 >/dev/null 2>&1 || printf '%s %s\n' "$address" "$name"
    done >dead
    awk -v limit="$MISSING_ANSWERS" -v counts="$STATE/hosts-missing" -v known="$STATE/hosts-known" '
        FILENAME == "dead" { is_dead[$0] = 1; next }
        { found[++answers] = $0; is_found[$0] = 1 }
        END {
            while ((getline line <counts) > 0) { count = line; sub(/^[0-9]+ /, "", line); missing[line] = count + 0 }
            while ((getline line <known) > 0) {
                is_known[line] = 1
                if (line in is_found) print line
                else if (!(line in is_dead) && ++missing[line] < limit) { print line; print missing[line], line >"absent" }
            }
            for (i = 1; i <= answers; i++) if (!(found[i] in is_known)) print found[i]
        }' dead "$1"
}

# Our block as $STATE/hosts asks for it. A host name that cannot be resolved now leads where it last did.
refresh_hosts() {
    if hosts_lines "$STATE/hosts" >answer; then
        with_earlier_lines answer >lines || return 1
        cmp -s lines "$STATE/hosts-known" || write_file lines "$STATE/hosts-known" 600 root:root
        if [ -s absent ]; then
            write_file absent "$STATE/hosts-missing" 600 root:root
        else
            rm -f "$STATE/hosts-missing"
        fi
    elif [ -s "$STATE/hosts-known" ]; then
        cp "$STATE/hosts-known" lines
    else
        return 1
    fi
    set_hosts lines
}

# Why refresh_hosts failed
no_hosts() {
    if [ -s "$STATE/hosts-known" ]; then
        echo "our block cannot be written to $HOSTS"
    else
        echo "$(cut -d ' ' -f 1 "$STATE/hosts") has no address on this VM"
    fi
}

# Peers of the agent's connections to istiod that our block does not name
old_peers() {
    sed -n '/^# BEGIN hybrid-mesh$/,/^# END hybrid-mesh$/p' "$HOSTS" | cut -d ' ' -f 1 >present
    ss -Hnt state established dport = :15012 | awk '{ sub(/:[0-9]*$/, "", $4); gsub(/[][]/, "", $4); print $4 }' |
        sort -u | grep -vxFf present || :
}

# The agent looks istiod's name up for each connection that it makes, and keeps those that it has. Envoy does not
# notice: the agent connects anew at once. To an old address again, if it has looked into the hosts file a moment ago:
# Go keeps what it read there for 5 s (net/hosts.go, cacheMaxAge). Fails where the kernel cannot close a connection
# (CONFIG_INET_DIAG_DESTROY).
leave_old_addresses() {
    [ -n "$(old_peers)" ] || return 0
    log "close the agent's connections to $(old_peers | paste -sd ' ' -)"
    within 10 is_gone_over || :
    [ -z "$(old_peers)" ]
}

is_gone_over() {
    for peer in $(old_peers); do
        case $peer in *:*) peer="[$peer]" ;; esac
        close_connections dst "$peer"
    done
    is_connected && [ -z "$(old_peers)" ]
}

# close_connections [FILTER…]: the agent's to istiod, as far as the kernel can (CONFIG_INET_DIAG_DESTROY)
close_connections() {
    timeout 10 ss -K "$@" dport = :15012 >/dev/null 2>&1 || :
}

# The agent's own ends of its connections to istiod
connections() {
    ss -Hnt state established dport = :15012 | awk '{ print $3 }'
}

# istiod notes a VM, and the agent tells of its app's health, as it connects: its connections are closed, as in
# leave_old_addresses, and it makes others. Fails as that does.
connect_anew() {
    connections >closed
    if [ ! -s closed ]; then
        log "the agent has no connection to istiod at this moment: it makes one by itself, and needs no restart"
        return
    fi
    log "close the agent's connections to istiod: it connects anew, and needs no restart"
    close_connections
    within 10 is_connected_anew || ! connections | grep -qxFf closed
}

is_connected_anew() {
    connections >found
    [ -s found ] && ! grep -qxFf closed found
}

agent_is_ready() {
    fetch GET http://127.0.0.1:15021/healthz/ready 5 >/dev/null 2>&1
}

is_connected() {
    [ -n "$(connections)" ]
}

# unfit_certificate FOLDER: why the certificate here goes with the files of a join in FOLDER; empty if it stays. One of
# another identity, or of a mesh with another root, would be used before the token. So would one from before this
# machine's first join, of which nobody knows either.
unfit_certificate() {
    delivered=$STATE/delivered
    was=$(cat "$delivered/spiffe-id" 2>/dev/null) || : # a full disk may have left it empty
    if [ ! -d "$delivered" ] && [ -e /etc/certs/cert-chain.pem ]; then
        echo 'it was here before this machine joined'
    elif [ "$was" ] && [ "$was" != "$SPIFFE_ID" ]; then
        echo "the identity was $was"
    elif [ -e "$delivered/root-cert.pem" ] && grep -qvxFf "$1/root-cert.pem" "$delivered/root-cert.pem"; then
        echo 'the mesh had another root certificate'
    fi
}

# has_ended TOKEN-FILE: whether the time of a token is over, as far as it tells
has_ended() {
    end=$(cut -d . -f 2 "$1" | tr '_-' '/+' | { cat && echo '=='; } | base64 -d 2>/dev/null | sed -n 's/.*"exp": *\([0-9]*\).*/\1/p')
    [ -n "$end" ] && [ "$(date +%s)" -ge "$end" ]
}

# Whether the proxy of a join serves: by what it knows, where istiod is away
is_ready() {
    [ -d "$STATE/before" ] && systemctl is-active --quiet istio && agent_is_ready
}

# From Envoy's /certs: the lines "SPIFFE-ID EXPIRY" of its own certificates, not of the authorities'
own_certificates() {
    fetch GET http://127.0.0.1:15000/certs 5 2>/dev/null | tr '{}[],' '\n' | awk -F '"' '
        $2 == "ca_cert" { own = 0 }
        $2 == "cert_chain" { own = 1 }
        own && $2 == "uri" { uri = $4 }
        own && $2 == "expiration_time" && uri != "" { print uri, $4; uri = "" }'
}

# Whether Envoy's certificate is of this machine's identity, and has not ended
has_good_certificate() {
    stamp
    own_certificates | awk -v id="$SPIFFE_ID" -v now="$STAMP" '$1 == id && $2 > now { good = 1 } END { exit !good }'
}

# What switch.sh keeps out while it is at it: the agent's way to istiod, and callers of a port that no proxy guards
GATES=HYBRID_MESH_GATES

# open_gates CHAIN…
open_gates() {
    for chain in "$@"; do
        for tool in iptables ip6tables; do
            command -v "$tool" >/dev/null || continue
            "$tool" -w 10 -D "$chain" -j "$GATES-$chain" 2>/dev/null || :
            "$tool" -w 10 -F "$GATES-$chain" 2>/dev/null || :
            "$tool" -w 10 -X "$GATES-$chain" 2>/dev/null || :
        done
    done
}

# undo_half_switch back|before-start: after a switch that was cut off half-way what ran before is put back, by this
# verb of switch.sh. Fails where that fails. Scripts of another version may have laid that ready, which know `back` alone.
undo_half_switch() {
    [ -e "$STATE/switching" ] || return 0
    verb=$1
    grep -q "$verb)" "$STATE/next/switch.sh" || verb=back
    /bin/sh "$STATE/next/switch.sh" "$verb"
}

this_boot() {
    cat /proc/sys/kernel/random/boot_id
}

cancel_start() {
    timeout 60 systemctl stop 'hybrid-mesh-start-*.timer' 'hybrid-mesh-start-*.service' 2>/dev/null || :
}

# What bring.sh has laid ready: it is kept elsewhere by now, or nobody needs it any more.
remove_brought() {
    rm -rf "$STATE/brought"
    [ -d "$BROUGHT" ] || return 0
    rm -rf "$BROUGHT"
    timeout 60 systemctl stop 'hybrid-mesh-scripts-*.timer' 2>/dev/null || :
}

# Istio's own cleanup knows only the rules that the present cluster.env would make: with other settings (DNS capture)
# it leaves some behind, which would lead nowhere. Both kinds of iptables: pilot-agent picks one by what it finds, at
# times not the one that `iptables` stands for.
clean_rules() {
    if grep -q '^ISTIO_CUSTOM_IP_TABLES=.*true' /var/lib/istio/envoy/cluster.env 2>/dev/null; then return; fi
    for tool in iptables iptables-legacy iptables-nft ip6tables ip6tables-legacy ip6tables-nft; do
        command -v "$tool-save" >/dev/null || continue
        "$tool-save" 2>/dev/null | without_istio >rules || :
        if grep -q ISTIO_ rules; then "$tool-restore" --noflush <rules || :; fi
    done
}

# From what iptables-save prints to what iptables-restore must do: empty Istio's chains, drop the jumps to them, and
# then the chains.
without_istio() {
    awk '
        /^\*/ { print; count = 0 }
        /^:ISTIO_/ { chains[count++] = substr($1, 2); print "-F", substr($1, 2) }
        /^-A ISTIO_/ { next }
        /^-A .* -j ISTIO_/ { sub(/^-A/, "-D"); print }
        /^COMMIT/ { for (i = 0; i < count; i++) print "-X", chains[i]; print }'
}

remove_agent() {
    if [ -e "/etc/systemd/system/$AGENT_UNIT" ]; then
        step agent 'take it away'
        quietly timeout 60 systemctl disable --now "$AGENT_UNIT" || fail 'the agent cannot be stopped' 'see the output above'
        rm -f "/etc/systemd/system/$AGENT_UNIT"
        timeout 60 systemctl daemon-reload
    fi
    rm -rf "$AGENT" /var/lib/private/hybrid-mesh-agent-data /var/lib/hybrid-mesh-agent-data
}
